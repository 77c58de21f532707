//! The names of all metrics: a closed list, because alarms and dashboards are written against it.

/// What a metric's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// How many.
    Count,
    /// Seconds.
    Seconds,
    /// A ratio.
    None,
}

impl Unit {
    /// CloudWatch's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
            Self::None => "None",
        }
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $unit:ident,)+) => {
        /// A metric of the namespace [`Metric::NAMESPACE`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $($(#[$doc])* $name,)+
        }

        impl Metric {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name, as alarms know it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What its numbers are.
            #[must_use]
            pub const fn unit(self) -> Unit {
                match self {
                    $(Self::$name => Unit::$unit,)+
                }
            }
        }
    };
}

metrics! {
    /// Jobs created, drafts too.
    JobsCreated: Count,
    /// Runs that ended with an output.
    JobsCompleted: Count,
    /// Runs that ended without one, but for those that were cancelled.
    JobsFailed: Count,
    /// Runs that their client cancelled.
    JobsCancelled: Count,
    /// How late the job that is due longest was when the sweep looked.
    OldestDueSeconds: Seconds,
    /// Messages that no worker has received, as the sweep saw them.
    JobsQueued: Count,
    /// Sessions that the sweep asked the wake service for.
    WakesPosted: Count,
    /// Sessions that it asked for in vain.
    WakesLost: Count,
    /// Sessions asked for that have not begun, as the wake service counts them.
    WakesQueued: Count,
    /// Workers in a session, paid for.
    WorkersRunning: Count,
    /// Workers that the wake service has no machine for.
    WorkersThrottled: Count,
    /// 1: the wake service did not say what it does.
    WakeServiceSilent: Count,
    /// 1: the wake service allows no worker.
    WorkersForbidden: Count,
    /// 1: messages wait, and no worker has run or begun for minutes.
    WorkersBarred: Count,
    /// 1: wakes that nobody took up for a quarter of an hour: they were thrown away and posted anew.
    WakesStuck: Count,
    /// 1: workers run although there has been no work for minutes.
    WorkersIdling: Count,
    /// Length of an attempt, from its claim until it ended or was found ended.
    AttemptSeconds: Seconds,
    /// Of a completed run: seconds of all its attempts over seconds of output. Exports, which run no model, do not count.
    WorkerSecondsPerOutputSecond: None,
    /// Processes of a function that were started.
    ColdStarts: Count,
    /// Milli-credits reserved.
    CreditsHeld: Count,
    /// Milli-credits charged.
    CreditsCaptured: Count,
    /// Milli-credits given back.
    CreditsReleased: Count,
    /// Webhooks answered with 2xx.
    DeliveriesSent: Count,
    /// Tries after which another one will follow.
    DeliveriesRetried: Count,
    /// Webhooks given up.
    DeliveriesGivenUp: Count,
    /// One for every tick of the sweep that came to its end.
    SweepHeartbeat: Count,
    /// One for every tick of deliver that came to its end.
    DeliverHeartbeat: Count,
    /// Balances that do not add up to what was granted.
    CreditInvariantBroken: Count,
}

impl Metric {
    /// Where CloudWatch keeps them.
    pub const NAMESPACE: &'static str = "Rotoless";
    /// The only dimension: whose value is the stack's name.
    pub const DIMENSION: &'static str = "Stack";
}
