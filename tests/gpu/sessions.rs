//! Checkpoints, forks and ways back on a GPU: what goes on after them is what a plain reading gives.

use crate::support::acts::{random_acts, steps};
use crate::support::{Place, Setting, Worst, checkpoint, load, tolerance, wait, webgpu_or_skipped};
use selvedge::backend::Outputs;
use selvedge::generate::{GenerateOptions, Session};
use selvedge::runtime::Engine;
use selvedge::state::PAGE_ROWS;

/// One golden of each kind of memory.
const KINDS: [&str; 5] = ["falcon_h1", "nemotron_h", "qwen3_5", "lfm2", "hymba/caseA"];

fn logits(engine: &mut Engine, session: &Session, token: u32) -> Vec<f32> {
    let step = engine.enqueue(session.slot(), &[token], Outputs::Last).expect("a step");
    wait(engine.logits(&step)).expect("logits")
}

/// Two branches of a text that part amid a page, and a way back into the page before.
fn branches(place: &Place, case: &str) {
    let setting = Setting { slots: 3, context: Some(3 * PAGE_ROWS), ..Setting::default() };
    let mut engine = load(place, &checkpoint(case), setting);
    let vocabulary = engine.model().vocabulary as u32;
    let text: Vec<u32> = (0..PAGE_ROWS as u32 + 30).map(|i| 10 + i * 11 % (vocabulary - 10)).collect();
    let mut worst = Worst::new(format!("{case} on {}", place.name), 2.0 * place.slack * tolerance(case));
    let options = GenerateOptions { max_tokens: 1, ..GenerateOptions::default() };
    let read = |engine: &mut Engine, session: &mut Session, text: &[u32]| {
        let (mut generation, read) = wait(session.begin(engine, text, &options)).expect("a turn");
        wait(session.stop(engine, &mut generation)).expect("an end");
        read
    };
    let plain = |engine: &mut Engine, text: &[u32]| {
        let mut session = Session::open(engine).expect("a slot");
        read(engine, &mut session, &text[..text.len() - 1]);
        let logits = logits(engine, &session, text[text.len() - 1]);
        session.close(engine).expect("an open slot");
        logits
    };
    let mut trunk = Session::open(&mut engine).expect("a slot");
    read(&mut engine, &mut trunk, &text);
    let (pages, copied) = (engine.pages().0, engine.counters().bytes_copied);
    let mut branch = trunk.fork(&mut engine).expect("a slot");
    assert_eq!(engine.pages().0, pages, "a fork takes no page");
    let block = engine.layout().block_bytes();
    assert_eq!(engine.counters().bytes_copied - copied, 2 * block, "a fork is a block in and out");
    // Both go on in the page in which they parted.
    let one = [text.as_slice(), &[11, 12]].concat();
    let other = [text.as_slice(), &[15, 14, 13]].concat();
    assert_eq!(read(&mut engine, &mut trunk, &one), 2);
    assert_eq!(read(&mut engine, &mut branch, &other), 3);
    let got = logits(&mut engine, &branch, 19);
    branch.close(&mut engine).expect("an open slot");
    worst.compare("a branch", &got, &plain(&mut engine, &[other.as_slice(), &[19]].concat()));
    let fork = trunk.fork(&mut engine).expect("a slot");
    let got = logits(&mut engine, &fork, 19);
    fork.close(&mut engine).expect("an open slot");
    worst.compare("the trunk", &got, &plain(&mut engine, &[one.as_slice(), &[19]].concat()));
    let again = wait(trunk.rollback(&mut engine, 40)).expect("a way back");
    assert_eq!(again, one.len() - 40, "without a checkpoint all is read again");
    let got = logits(&mut engine, &trunk, 19);
    worst.compare("a way back", &got, &plain(&mut engine, &[&one[..one.len() - 40], &[19]].concat()));
    worst.finish();
}

#[test]
fn branches_remember_what_is_theirs() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    let kinds = if gpu.slow { &KINDS[..1] } else { &KINDS[..] };
    kinds.iter().for_each(|case| branches(&gpu, case));
}

/// The library's test of random acts, shorter: a software GPU takes its time.
#[test]
fn sequences_remember_what_a_plain_reading_would() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    // All of them where more steps are asked for.
    let (usual, asked) = (15, steps(15));
    let kinds: &[&str] = if asked > usual { &KINDS } else { &["nemotron_h", "hymba/caseA"] };
    for (seed, case) in kinds.iter().enumerate() {
        random_acts(&gpu, case, 177 + seed as u32, asked);
    }
}

/// Sixteen tokens are taken back on the device: no byte of the memory comes to the host, and no object is made.
#[test]
fn sixteen_tokens_are_taken_back_on_the_device() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    let mut engine = load(&gpu, &checkpoint("hymba/caseA"), Setting::default());
    let options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
    let mut session = Session::open(&mut engine).expect("a slot");
    session.keep_recent(&mut engine, 16);
    let turn = |engine: &mut Engine, session: &mut Session, text: &[u32]| {
        let (mut generation, _) = wait(session.begin(engine, text, &options)).expect("a turn");
        while wait(session.next(engine, &mut generation)).expect("a token").is_some() {}
    };
    turn(&mut engine, &mut session, &[14, 18, 15, 16, 23, 42]);
    let said = session.tokens().to_vec();
    // The programs of the replay are made once.
    for round in 0..5 {
        let before = engine.counters();
        let again = wait(session.rollback(&mut engine, 16)).expect("a way back");
        let after = engine.counters();
        assert!(again < 2 * 16, "{again} tokens were read again");
        assert!(after.bytes_read - before.bytes_read <= 8, "one token");
        println!("round {round}: {again} read again, {} objects made", after.objects - before.objects);
        if round > 1 {
            assert_eq!(after.objects, before.objects, "nothing is made");
        }
        turn(&mut engine, &mut session, &said[..said.len() - 15]);
        assert_eq!(session.tokens()[..said.len()], said[..]);
    }
}
