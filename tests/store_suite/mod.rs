//! What every backend of the store must do: the same cases on SQLite and PostgreSQL.
//!
//! A test binary includes this file with `#[path = "../store_suite/mod.rs"] #[macro_use] mod store_suite;` and says
//! `store_suite!(sqlite);` or `store_suite!(postgres, url);`, where `url` is an expression: the address of a database in which it may
//! create schemas; each case gets its own.

pub mod audits;
pub mod commits;
pub mod crowds;
pub mod durability;
pub mod fixture;
pub mod flags;
pub mod incidents;
pub mod opening;
pub mod outbox;
pub mod pages;
pub mod rollups;
pub mod tokens;

/// Makes a module of tests, one per case, on the named backend.
macro_rules! store_suite {
    ($backend:ident) => {
        store_suite!($backend, String::new());
    };
    ($backend:ident, $server:expr) => {
        store_suite!(@cases $backend, $server,
            audits: [every_change_is_chained, an_edited_row_is_found, a_removed_row_is_found, a_cut_tail_is_found],
            commits: [
                a_record_is_loaded_as_committed, a_replayed_record_changes_nothing, a_replayed_decision_brings_nothing_twice,
                a_decision_cannot_change, a_failed_commit_leaves_nothing, state_rows_come_and_go,
                one_open_latch_per_scope, rearm_then_a_new_latch, automation_is_remembered,
                old_history_goes_and_decisions_stay, grounds_are_kept_and_sealed
            ],
            crowds: [stores_side_by_side_claim_disjointly, writers_take_turns, a_lost_connection_is_transient],
            durability: [kill_nine_loses_no_acknowledged_commit],
            flags: [
                declared_flags_are_served, a_pin_is_conditional, a_pause_holds_the_share, declared_frozen_stays_where_it_stood,
                a_removed_flag_keeps_its_pins, kill_and_unkill, human_changes_are_seen_since_the_decision
            ],
            incidents: [
                one_incident_per_flag, an_incident_shows_its_story, a_decision_joins, acknowledged_and_resolved,
                a_closing_order_closes, filters,
                a_withheld_rollback_says_why, a_withheld_slice_beside_a_rolled_back_one
            ],
            opening: [
                migrations_are_idempotent, a_newer_schema_is_refused, a_changed_migration_is_refused, a_second_opener_is_refused, a_link_is_the_same_database,
                a_stale_owner_is_fenced, a_command_opens_beside_the_daemon
            ],
            outbox: [
                flips_come_first, claims_are_exclusive, a_lease_runs_out, a_dead_owners_claims_are_free, a_stale_completion_is_refused, a_lane_is_first_in_first_out,
                a_pin_overtakes, a_human_overtakes_a_rules_pin, a_rearm_voids_a_pending_pin, retry_waits, expiry_is_an_answer, answers_are_given_once,
                age_and_counts, recheck_tells_the_truth, an_unreadable_row_blocks_nothing,
                a_row_that_keeps_failing_grows_old
            ],
            pages: [
                a_page_waits_for_its_flip, a_page_leaves_by_its_own_timer, a_page_without_a_flip_leaves_at_once,
                a_page_sent_early_is_updated, a_page_under_way_is_updated, release_lets_go, a_standing_page_is_sent_again,
                a_newer_message_replaces_a_standing_one, an_end_reaches_whoever_was_told, a_refused_page_is_noted,
                a_failed_flip_is_said_after_the_waiting_page
            ],
            rollups: [roll_ups_come_back_as_stored, old_roll_ups_are_forgotten],
            tokens: [a_token_is_known_by_its_secret, a_revoked_token_is_unknown, names_are_unique]
        );
    };
    (@cases $backend:ident, $server:expr, $($file:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        mod $backend {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (backend, case, server) = (stringify!($backend), stringify!($case), $server);
                    let base = $crate::store_suite::fixture::Base::new(backend, case, server).await;
                    $crate::store_suite::$file::$case(&base).await;
                    base.remove().await;
                }
            )*)*

            /// Started as a process of its own by `kill_nine_loses_no_acknowledged_commit`.
            #[tokio::test]
            #[ignore = "a process that another test starts and kills"]
            async fn child() {
                $crate::store_suite::durability::child().await;
            }
        }
    };
}
