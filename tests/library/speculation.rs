//! Speculation: texts are those without it, whatever the draft guesses; drafts are those of the reference; and what is
//! refused leaves no trace.

use selvedge::runtime::{Engine, EngineOptions};

use crate::support::{Setting, checkpoint, cpu, drafts, load, wait};

fn speculating(drafts: usize) -> Setting {
    Setting { speculate: drafts, ..Setting::default() }
}

#[test]
fn drafts_are_the_references() {
    drafts::are_the_references(&cpu());
}

#[test]
fn texts_are_those_without_drafts() {
    drafts::texts_are_the_same(&cpu());
}

#[test]
fn a_draft_that_is_always_right_fills_every_step() {
    drafts::always_right(&cpu());
}

#[test]
fn sessions_go_on_after_drafts() {
    drafts::sessions_go_on(&cpu());
}

#[test]
fn what_cannot_draft_is_refused_with_what_can() {
    let refused = |name: &str, drafts: usize| {
        let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
        let options = EngineOptions { speculate: drafts, ..EngineOptions::new(&mut progress) };
        let error = wait(Engine::load(&checkpoint(name), (cpu().open)(), options)).err().expect("an error");
        error.to_string()
    };
    for (name, words) in [
        ("llama", ["`llama`", "qwen3_5", "mtp.*"]),
        ("nemotron_h", ["`nemotron_h`", "eh_proj", "without speculation"]),
        // Part of a head: one matrix and a norm.
        ("qwen3_5", ["mtp.layers.0.", "lacks 13", "do config and weights"]),
    ] {
        let error = refused(name, 1);
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
    assert!(refused("draft_qwen3_5", 8).contains("at most 7"));
}

#[test]
fn the_head_is_named_as_unread_only_where_it_is() {
    for (drafts, count) in [(0, 1), (2, 0)] {
        let engine = load(&cpu(), &checkpoint("draft_qwen3_5"), speculating(drafts));
        let named = engine.notices().iter().filter(|notice| notice.contains("heads for later tokens")).count();
        assert_eq!(named, count, "{:?}", engine.notices());
    }
}

#[test]
fn a_request_alone_speculates_in_the_scheduler() {
    drafts::scheduled(&cpu());
}
