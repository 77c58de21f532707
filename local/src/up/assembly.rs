//! The parts of the service, put together over the embedded AWS as the functions put them together over AWS.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use axum::extract::Request;
use jiff::SignedDuration;
use rotoless_api::on_aws::{Adapters, AwsHealth, backends};
use rotoless_api::{ApiState, Host, Streams};
use rotoless_aws::config::StaticCredentials;
use rotoless_aws::system::SystemClock;
use rotoless_aws::wakers::{Drain, Homes, WakeSettings};
use rotoless_aws::{AwsClients, CallMeter, Endpoints, Names, Settings, Store};
use rotoless_callback::{CallbackState, Secrets as WorkerSecrets, SignsOfLife};
use rotoless_contract::{JobSpec, Model};
use rotoless_core::policy::{Policy, Pricing};
use rotoless_core::ports::Clock;
use rotoless_core::rate::{PerMinute, Rates};
use rotoless_core::usecase::{AttemptCalls, Claims, Deliver, Drainers, Sweep};
use rotoless_deliver::EgressSender;
use rotoless_embedded::Embedded;
use rotoless_matting::fetch;
use rotoless_matting::registry::Registry;
use rotoless_sweep::{Tick, Workers};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use url::Url;

use super::secrets::Secrets;
use crate::cli::{UpArgs, WakeArgs};

/// The service's greatest upload in one request: a long-lived host takes the contract's whole 500 MB.
const MAX_MULTIPART_BYTES: u64 = 500 * 1000 * 1000;

/// Live streams at once: each holds a connection and asks the database twice a second.
const MAX_STREAMS: usize = 256;

/// What the service is put together from.
pub(crate) struct Plan<'a> {
    pub(crate) embedded: &'a Embedded,
    pub(crate) secrets: &'a Secrets,
    pub(crate) public_url: &'a str,
    pub(crate) admin_token: Option<SecretString>,
    pub(crate) models: &'a Path,
    pub(crate) args: &'a UpArgs,
    pub(crate) closing: CancellationToken,
    /// Counts the calls of AWS, where somebody wants to know.
    pub(crate) meter: Option<&'a CallMeter>,
}

/// The service, not yet listening.
pub(crate) struct Assembly {
    api: ApiState,
    callback: CallbackState,
    deliver: Arc<Deliver>,
    tick: Arc<Tick>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    admin_is_on: bool,
}

impl Assembly {
    pub(crate) async fn new(plan: Plan<'_>) -> Result<Self> {
        let Plan { embedded, secrets, public_url, admin_token, models, args, closing, meter } = plan;
        let settings = settings(embedded, secrets, public_url)?;
        let clients = match meter {
            Some(meter) => AwsClients::metered(&settings, meter).await,
            None => AwsClients::connect(&settings).await,
        };
        let adapters = Adapters::new(&clients, &settings);
        let Adapters { store, objects, queue } = adapters.clone();
        let sender = Arc::new(EgressSender::new(&args.allow_egress_dangerous)?);
        let policy = Arc::new(policy(args, models)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let wakes = wake_settings(&args.wakes)?;
        let drain = Drain { clients: &clients, names: &settings.names, eventcount: store.clone() };
        let homes = Homes::connect(&wakes, &policy, &clock, &drain);
        let ports = adapters.ports(egress_policy(args)?, &homes);
        let entropy = ports.entropy.clone();
        let admin_is_on = admin_token.is_some();
        let host = Host {
            policy: policy.clone(),
            public_base: Some(public_url.to_owned()),
            admin_token,
            legacy: args.legacy_api,
            max_multipart_bytes: MAX_MULTIPART_BYTES,
            webhook_master: secrets.webhook_master.clone(),
            models: model_check(models),
            supported: Arc::new(|spec: &JobSpec| rotoless_matting::supported(spec).map_err(|err| err.to_string())),
            health: Arc::new(AwsHealth { adapters, home: wakes.first.home() }),
            streams: Some(Streams::new(MAX_STREAMS, closing)),
            backends: backends([
                "embedded DynamoDB on SQLite",
                "embedded S3 on files",
                "embedded SQS on SQLite",
                "rotoless up",
            ]),
        };
        let api = ApiState::new(ports, host);
        let claims = Claims {
            jobs: store.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
            master: secrets.report_master.clone(),
        };
        let attempts = AttemptCalls {
            jobs: store.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
        };
        let callback = CallbackState {
            claims: Arc::new(claims),
            attempts: Arc::new(attempts),
            drainers: Arc::new(Drainers { eventcount: store.clone(), clock: clock.clone() }),
            clock: clock.clone(),
            entropy: entropy.clone(),
            secrets: Arc::new(WorkerSecrets {
                fleet: vec![secrets.fleet_key.clone()],
                masters: vec![secrets.report_master.clone()],
            }),
            signs: Arc::new(SignsOfLife::new(store.clone())),
        };
        let deliver = Arc::new(Deliver {
            signings: store.clone(),
            deliveries: store.clone(),
            jobs: store.clone(),
            objects: objects.clone(),
            sender,
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
            master: secrets.webhook_master.clone(),
        });
        let workers = match homes.wakes(queue.clone(), store.clone(), clock.clone()) {
            Some(wakes) => Workers::Woken(Arc::new(wakes)),
            None => Workers::Polling(queue.clone()),
        };
        let waker = homes.waker();
        let sweep = Sweep { jobs: store.clone(), objects, queue, waker, clock: clock.clone(), entropy, policy };
        let tick = Arc::new(Tick { sweep: Arc::new(sweep), workers });
        Ok(Self { api, callback, deliver, tick, store, clock, settings, admin_is_on })
    }

    /// One router for the public port. Workers' routes and the bucket are told apart by path; the rest is the API's.
    pub(crate) fn router(&self, bucket: Router) -> Router {
        let callback = rotoless_callback::router(self.callback.clone());
        let api = rotoless_api::router(self.api.clone());
        // Not by routes: each router keeps its own answers to unknown paths and methods.
        let by_path = tower::service_fn(move |request: Request| {
            let router = if request.uri().path().starts_with("/internal/") { callback.clone() } else { api.clone() };
            router.oneshot(request)
        });
        Router::new().merge(bucket).fallback_service(by_path)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn deliver(&self) -> &Arc<Deliver> {
        &self.deliver
    }

    pub(crate) fn tick(&self) -> &Arc<Tick> {
        &self.tick
    }

    pub(crate) fn admin_is_on(&self) -> bool {
        self.admin_is_on
    }

    pub(crate) fn queue_url(&self) -> &str {
        &self.settings.names.jobs_queue_url
    }

    pub(crate) fn sqs_url(&self) -> &str {
        self.settings.endpoints.as_ref().map_or("", |endpoints| endpoints.sqs.as_str())
    }
}

fn settings(embedded: &Embedded, secrets: &Secrets, public_url: &str) -> Result<Settings> {
    let public: Url = public_url.parse()?;
    Ok(Settings {
        endpoints: Some(Endpoints {
            dynamodb: embedded.dynamodb_url.parse()?,
            sqs: embedded.sqs_url.parse()?,
            s3: public.clone(),
            public_s3: Some(public),
        }),
        region: rotoless_embedded::REGION.to_owned(),
        credentials: Some(StaticCredentials {
            access_key: secrets.access_key.clone(),
            secret_key: secrets.secret_key.clone(),
        }),
        names: names(&embedded.names),
    })
}

/// What the embedded stack calls our things.
pub(crate) fn names(names: &rotoless_embedded::ResourceNames) -> Names {
    Names {
        keys: names.keys_table.clone(),
        accounts: names.accounts_table.clone(),
        jobs: names.jobs_table.clone(),
        idempotency: names.idempotency_table.clone(),
        deliveries: names.deliveries_table.clone(),
        limits: names.limits_table.clone(),
        usage: names.usage_table.clone(),
        bucket: names.media_bucket.clone(),
        jobs_queue_url: names.jobs_queue_url.clone(),
    }
}

/// What the arguments do not say, the environment does: keys among it.
fn wake_settings(args: &WakeArgs) -> Result<WakeSettings> {
    let lookup = |key: &str| match key {
        "WAKER" => Some(args.waker.to_string()),
        "WORKERS_MAX" => Some(args.workers_max.to_string()),
        _ => crate::environment(key),
    };
    WakeSettings::from_lookup(lookup)
        .map_err(|problems| anyhow!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

/// What clients' URLs may lead to. Whoever opens one judges it again.
fn egress_policy(args: &UpArgs) -> Result<rotoless_egress::Policy> {
    let exceptions = args.allow_egress_dangerous.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    Ok(rotoless_egress::Policy { allow_http: false, allow_addresses_dangerous: exceptions })
}

fn policy(args: &UpArgs, models: &Path) -> Result<Policy> {
    let pricing = match &args.pricing {
        None => Pricing::default(),
        Some(file) => {
            let json = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Pricing::from_json(&json).with_context(|| format!("cannot use {}", file.display()))?
        }
    };
    Ok(Policy {
        lease: SignedDuration::from_secs(i64::from(args.lease_seconds)),
        // Whoever lets webhooks out to hosts of his own has no certificate for them as a rule.
        allow_http: !args.allow_egress_dangerous.is_empty(),
        rates: Rates { reads: PerMinute::new(args.reads_per_minute), creates: PerMinute::new(args.creates_per_minute) },
        max_open_jobs: args.max_open_jobs,
        segment_seconds: args.segment_seconds,
        pricing,
        prompts: crate::models::prompts(models)?,
        ..Policy::default()
    })
}

/// Looks into the models directory at every create, so that a fetch needs no restart.
fn model_check(models: &Path) -> rotoless_api::ModelCheck {
    let models = models.to_owned();
    Arc::new(move |role: Model| {
        let missing = || format!("The weights of model `{role}` are not installed: run `rotoless models fetch {role}`");
        let registry = Registry::load(&models).map_err(|_| "The model registry cannot be read".to_owned())?;
        let entry = registry.for_role(role).ok_or_else(missing)?;
        let is_there = |file| fetch::is_installed(file, &models).unwrap_or(false);
        if registry.with_partners(entry).all(|entry| entry.files().all(is_there)) { Ok(()) } else { Err(missing()) }
    })
}
