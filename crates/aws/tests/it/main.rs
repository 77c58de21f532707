//! The adapters against the embedded AWS, and against a network that loses replies. What needs only DynamoDB also
//! runs on Amazon's own DynamoDB Local (`second_opinion`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm)]

/// Tests over DynamoDB: each takes a fresh world. They run one by one on the embedded AWS, and together on the
/// second opinion.
macro_rules! scenarios {
    ($($name:ident,)+) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::world::World::start().await).await;
                }
            )+
        }

        pub(crate) const ALL: &[crate::world::Scenario] =
            &[$((stringify!($name), |world| Box::pin($name(world)))),+];
    };
}

mod eventcount;
mod faults;
mod jobs;
mod limits;
mod money;
mod objects;
mod queue;
mod records;
mod runpod;
mod second_opinion;
mod world;
