//! The official client.

use crate::harness::{Home, scenario, skills};

#[test]
fn tools_are_listed_and_called() {
    Home::with(&[&skills().behaviours]).scenario("calling");
}

#[test]
fn what_went_wrong_is_told_to_the_model() {
    Home::with(&[&skills().behaviours]).scenario("failing");
}

#[test]
fn a_missing_grant_is_named_with_what_to_add() {
    Home::with(&[&skills().fetch_page]).scenario("missing_grants");
}

#[test]
fn attachments_go_in_and_come_out_as_what_they_are() {
    Home::with(&[&skills().behaviours]).scenario("attachments");
}

#[test]
fn progress_and_log_records_come_while_it_runs() {
    Home::with(&[&skills().behaviours]).scenario("telling");
}

#[test]
fn a_call_that_is_cancelled_stops_the_guest() {
    Home::with(&[&skills().behaviours]).scenario("cancelling");
}

#[test]
fn a_change_of_what_is_installed_is_told() {
    Home::with(&[&skills().behaviours]).scenario("changing");
}

#[test]
fn a_skill_md_and_its_files_can_be_read_and_nothing_else() {
    Home::with(&[&skills().behaviours, &skills().text_stats]).scenario("reading");
}

#[test]
fn a_large_output_is_cut_and_can_be_read_on() {
    Home::with(&[&skills().behaviours]).scenario("large");
}

#[test]
fn tools_are_found_by_what_they_do() {
    Home::with(&[&skills().behaviours, &skills().text_stats]).scenario("searching");
}

#[test]
fn long_work_is_a_task_that_survives_a_restart() {
    Home::with(&[&skills().behaviours]).scenario("working");
}

#[test]
fn only_what_was_chosen_is_offered() {
    Home::with(&[&skills().behaviours]).scenario("chosen");
}

#[test]
fn what_the_policy_asks_about_is_asked_of_the_person_at_the_client() {
    let home = Home::with(&[&skills().behaviours]);
    home.policy("[[approval.rules]]\ntool = 'answer'\naction = 'ask'\n");
    home.scenario("ruled");
}

#[test]
fn it_is_the_same_over_http() {
    let home = Home::with(&[&skills().behaviours]);
    let serving = home.serve();
    scenario("served", serving.url.as_ref(), home.path());
}
