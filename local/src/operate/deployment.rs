//! A deployment's tables and bucket, as an operator with rights on them reaches them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rotoless_aws::config::StaticCredentials;
use rotoless_aws::{AwsClients, Endpoints, Names, S3Objects, Settings, Store};
use rotoless_embedded::{Embedded, EmbeddedConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::arguments::Deployment;
use crate::environment;
use crate::up::secrets::Secrets;
use crate::up::serve::serve;

/// What is reached, and what has to be kept for it.
pub(super) struct Reached {
    pub(super) store: Arc<Store>,
    pub(super) objects: Arc<S3Objects>,
    own: Option<Own>,
}

/// The embedded AWS of a data directory, started for one command.
struct Own {
    embedded: Embedded,
    stop: CancellationToken,
}

impl Reached {
    pub(super) async fn open(deployment: &Deployment) -> Result<Self> {
        match (&deployment.stack, &deployment.data_dir) {
            (Some(stack), _) => Self::on_aws(stack).await,
            (None, Some(data_dir)) => Self::on_this_machine(data_dir).await,
            (None, None) => bail!("name a --stack or a --data-dir"),
        }
    }

    async fn on_aws(stack: &str) -> Result<Self> {
        let region = environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION"));
        let region = region.context("set AWS_REGION to the stack's region")?;
        let prefix = format!("{stack}-media-");
        let names = Names::of_stack(stack, String::new(), String::new());
        let mut settings = Settings { endpoints: None, region, credentials: None, names };
        let clients = AwsClients::connect(&settings).await;
        // The bucket's name ends with the account's number, which is nowhere else to be had without a further SDK.
        let buckets = clients.s3.list_buckets().prefix(&prefix).send().await;
        let buckets = buckets.map_err(anyhow::Error::from).context("cannot list the account's buckets")?;
        let bucket = buckets.buckets().iter().filter_map(|bucket| bucket.name()).find(|name| name.starts_with(&prefix));
        settings.names.bucket =
            bucket.with_context(|| format!("no bucket {prefix}…: is {stack} the stack?"))?.to_owned();
        Ok(Self::by(&clients, &settings, None))
    }

    async fn on_this_machine(data_dir: &Path) -> Result<Self> {
        let secrets = Secrets::read(data_dir)?;
        let secrets = secrets.with_context(|| format!("{} is no data directory of rotoless", data_dir.display()))?;
        let embedded = Embedded::start(EmbeddedConfig {
            data_dir: data_dir.to_owned(),
            access_key: secrets.access_key.clone(),
            secret_key: secrets.secret_key.clone(),
            chaos: None,
            visibility_seconds: None,
        })
        .await
        .context("cannot open it; does a service run on it?")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let s3: url::Url = format!("http://{}", listener.local_addr()?).parse()?;
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, embedded.s3(), stop.clone()));
        let names = &embedded.names;
        let settings = Settings {
            endpoints: Some(Endpoints {
                dynamodb: embedded.dynamodb_url.parse()?,
                sqs: embedded.sqs_url.parse()?,
                s3,
                public_s3: None,
            }),
            region: rotoless_embedded::REGION.to_owned(),
            credentials: Some(StaticCredentials {
                access_key: secrets.access_key.clone(),
                secret_key: secrets.secret_key.clone(),
            }),
            names: crate::up::assembly::names(names),
        };
        let clients = AwsClients::connect(&settings).await;
        Ok(Self::by(&clients, &settings, Some(Own { embedded, stop })))
    }

    fn by(clients: &AwsClients, settings: &Settings, own: Option<Own>) -> Self {
        let store = Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone()));
        let objects = Arc::new(S3Objects::new(clients, &settings.names.bucket));
        Self { store, objects, own }
    }

    /// Everything is written when this returns.
    pub(super) async fn close(self) {
        if let Some(own) = self.own {
            own.stop.cancel();
            own.embedded.shutdown().await;
        }
    }
}
