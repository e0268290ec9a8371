//! Snapshots across engines and backends: what goes on after one must be what would have come without it.

use std::collections::BTreeSet;

use selvedge::generate::{GenerateOptions, Session};
use selvedge::graph::StateKind;
use selvedge::runtime::Engine;
use selvedge::state::{PAGE_ROWS, Sampler, Snapshot};

use super::{Place, Setting, Worst, checkpoint, load, read, tolerance, wait};

/// Tokens of a text: beyond two pages, and beyond every golden's window.
const TOKENS: usize = 2 * PAGE_ROWS + 9;
/// Tokens read after a cut.
const AFTER: usize = 4;
/// Rows of a chunk of the scans.
const CHUNK: usize = 32;

/// Ids of a text without order; the first ids of some vocabularies stand for images.
fn text(vocabulary: usize, length: usize) -> Vec<u32> {
    const TEXTS: u32 = 10;
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        TEXTS + state % (vocabulary as u32 - TEXTS)
    };
    (0..length).map(|_| next()).collect()
}

/// Places at which a memory may be of another kind than beside them: the edges of pages, chunks, windows, and of the
/// rows that are pinned in front; and some others. `few`: some of them.
fn cuts(engine: &Engine, few: bool) -> Vec<usize> {
    let mut edges = vec![1, CHUNK, PAGE_ROWS, 2 * PAGE_ROWS, 11, 50];
    for state in &engine.layout().states {
        if let StateKind::Kv(kv) = &state.kind
            && let Some(window) = kv.window
        {
            edges.extend([window, PAGE_ROWS.saturating_sub(kv.pinned)]);
        }
    }
    let around = edges.into_iter().flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1]);
    let cuts: BTreeSet<usize> = around.filter(|&cut| cut > 0 && cut <= TOKENS - AFTER).collect();
    let step = if few { cuts.len().div_ceil(3) } else { 1 };
    cuts.into_iter().step_by(step).collect()
}

/// A snapshot as it comes back from a file.
fn through_a_file(snapshot: &Snapshot) -> Snapshot {
    let bytes = snapshot.to_bytes().expect("a file");
    assert!(bytes.len() as u64 > snapshot.bytes().total());
    Snapshot::from_bytes(&bytes).expect("a snapshot")
}

/// Reads a golden's model up to every cut in one place and goes on in another one.
pub fn go_on_elsewhere(from: &Place, to: &Place, case: &str, kv_f16: bool) {
    let setting = || Setting { slots: 2, context: Some(TOKENS + AFTER), kv_f16, ..Setting::default() };
    let checkpoint = checkpoint(case);
    let (mut first, mut second) = (load(from, &checkpoint, setting()), load(to, &checkpoint, setting()));
    let ids = text(first.model().vocabulary, TOKENS);
    let slack = from.slack.max(to.slack);
    // Keys in f16 are rounded where backends differ in the last bits.
    let allowed = if kv_f16 { 6e-3 } else { 2.0 * slack * tolerance(case) };
    let mut worst = Worst::new(format!("{case} from {} to {}", from.name, to.name), allowed);
    let (reading, busy) = (first.open().expect("a slot"), second.open().expect("a slot"));
    // The slot that goes on has other pages than the one that was left.
    read(&mut second, busy, &ids[..PAGE_ROWS + 1], usize::MAX);
    let mut at = 0;
    // Where a memory lies is the host's affair: a GPU need not be asked at every edge.
    let few = from.name != "cpu" || to.name != "cpu";
    for cut in cuts(&first, few) {
        read(&mut first, reading, &ids[at..cut], 40);
        at = cut;
        let snapshot = through_a_file(&wait(first.snapshot(reading, &ids[..cut])).expect("a snapshot"));
        let (here, there) = (first.open().expect("a slot"), second.open().expect("a slot"));
        assert_eq!(first.restore(here, &snapshot).expect("the same engine"), None);
        assert_eq!(second.restore(there, &snapshot).expect("the same model"), None);
        assert_eq!(second.length(there).expect("an open slot"), cut);
        let rest = &ids[cut..cut + AFTER];
        let wanted = read(&mut first, here, rest, 1);
        worst.compare(&format!("cut at {cut}"), &read(&mut second, there, rest, 1), &wanted);
        first.close(here).expect("an open slot");
        second.close(there).expect("an open slot");
    }
    worst.finish();
}

/// Cuts a generation that draws and penalises, and goes on with it: token by token what would have come without a cut.
pub fn write_on_elsewhere(from: &Place, to: &Place, case: &str) {
    const LENGTH: usize = 24;
    let sampler = Sampler { temperature: 0.8, top_k: 20, seed: 5, repetition: 1.2, ..Sampler::default() };
    let options = |max_tokens| GenerateOptions { sampler: sampler.clone(), max_tokens, ..GenerateOptions::default() };
    let setting = || Setting { slots: 2, ..Setting::default() };
    let checkpoint = checkpoint(case);
    let (mut first, mut second) = (load(from, &checkpoint, setting()), load(to, &checkpoint, setting()));
    let prompt = text(first.model().vocabulary, 19);
    let written = |engine: &mut Engine, session: &mut Session, text: &[u32], count| {
        let (mut generation, read) = wait(session.begin(engine, text, &options(count))).expect("a turn");
        let mut tokens = vec![];
        while let Some(token) = wait(session.next(engine, &mut generation)).expect("a token") {
            tokens.push(token);
        }
        (tokens, read)
    };
    let mut session = Session::open(&mut first).expect("a slot");
    let (tokens, read) = written(&mut first, &mut session, &prompt, LENGTH);
    assert_eq!(read, prompt.len());
    let snapshot = through_a_file(&wait(session.snapshot(&mut first)).expect("a snapshot"));
    assert_eq!(snapshot.tokens, [prompt.as_slice(), &tokens].concat());
    let length = snapshot.tokens.len();

    // The next turn reads its own tokens only, and the one that was chosen last.
    let more = [snapshot.tokens.as_slice(), &prompt[..7]].concat();
    let (wanted, read) = written(&mut first, &mut session, &more, LENGTH);
    assert_eq!(read, more.len() - snapshot.read);
    let (mut restored, notice) = Session::restore(&mut second, &snapshot).expect("the same model");
    assert_eq!((notice, restored.length(&second).expect("an open slot")), (None, snapshot.read));
    let (got, read) = written(&mut second, &mut restored, &more, LENGTH);
    assert_eq!(read, more.len() - snapshot.read, "{length} tokens");
    assert_eq!(got, wanted, "{case} from {} to {}", from.name, to.name);
}
