//! Quantising on the device against quantising on the host: the same codes and scales, but where the last bits of a
//! division or a sum lead a search another way.

use crate::support::{adapter_or_skipped, bell, checkpoint, squared_error, wait};
use futures::future::LocalBoxFuture;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use selvedge::backend::webgpu::{WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, Outputs, ProgramSpec, Span, Step, StepTable, Tokens};
use selvedge::checkpoint::{
    self, Checkpoint, ConvertOptions, FileSink, Memory, RowQuantiser, SinkError, Storage, WeightChoice, WeightSink,
};
use selvedge::formats::{GROUP, Quantised, Rounding, quantise_row};
use selvedge::graph::{
    GraphBuilder, Map, Part, RowBlock, SourceBlock, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe,
};
use selvedge::runtime::{Engine, EngineOptions};
use selvedge::state::{KvFormat, SlotId, StateLayout};

/// The rows of a quantised table as its device reads them: an embedding of every one.
fn rows_of(backend: &mut dyn Backend, desc: &WeightDesc, fill: impl FnOnce(&mut dyn Backend)) -> Vec<f32> {
    let mut b = GraphBuilder::new();
    let table = b.matrix("table", vec![Part::all("table", &[desc.rows, desc.columns])]);
    let out = b.embed("out", table, 1.0);
    let graph = b.finish().expect("a graph");
    backend.create_weight(WeightId(0), desc).expect("room");
    fill(backend);
    let layout = StateLayout::new(&graph, 1, 128, KvFormat::F32);
    backend.allocate(&layout).expect("room");
    backend.set_pages(SlotId(0), &[0, 1]).expect("pages");
    let spec = ProgramSpec { keep: [out].into(), ..ProgramSpec::new(desc.rows, 0) };
    let program = backend.compile(&graph, &spec).expect("a program");
    let tokens = Tokens::Given((0..desc.rows as u32).collect());
    let step = Step { spans: vec![Span { slot: SlotId(0), first: 0, tokens, outputs: Outputs::None }] };
    backend.step(program, &StepTable::new(&step, &layout).expect("a step")).expect("it runs");
    wait(backend.read(program, out, desc.rows)).expect("rows")
}

fn encoded(numbers: &[f32], format: WeightFormat) -> Vec<u8> {
    let mut bytes = vec![0; format.row_bytes(numbers.len())];
    format.encode(numbers, Rounding::Absmax, &mut bytes);
    bytes
}

fn decoded(bytes: &[u8], format: WeightFormat) -> Vec<f32> {
    match format {
        WeightFormat::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        WeightFormat::Bf16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
    }
}

/// A table quantised by the device, in blocks that end anywhere, and by the host. Gives how many groups there are,
/// and how many are not the same.
fn compare(
    backend: &mut WebGpuBackend,
    (rows, columns): (usize, usize),
    to: Quantised,
    rounding: Rounding,
    from: WeightFormat,
    scale: f32,
) -> (usize, usize) {
    let what = format!("[{rows}, {columns}] in {} to {}, {rounding:?}, x {scale}", from.name(), to.name());
    let bytes = encoded(&bell(rows * columns, (rows * columns) as u32), from);
    let format = WeightFormat::Quantised(to);
    let desc = WeightDesc { name: what.clone(), rows, columns, format, class: WeightClass::Matrix };

    let numbers: Vec<f32> = decoded(&bytes, from).iter().map(|x| x * scale).collect();
    let mut canonical = vec![0; rows * to.row_bytes(columns)];
    for (row, numbers) in canonical.chunks_exact_mut(to.row_bytes(columns)).zip(numbers.chunks_exact(columns)) {
        assert!(quantise_row(numbers, to, rounding, row), "finite numbers");
    }
    let wanted = rows_of(backend, &desc, |backend| {
        wait(backend.write_weight(WeightId(0), RowBlock { first: 0, bytes: &canonical })).expect("room");
    });
    let got = rows_of(backend, &desc, |backend| {
        let mut first = 0;
        for end in [rows / 5, rows / 5 + 1, rows / 2, rows] {
            let row = from.row_bytes(columns);
            let bytes = &bytes[first * row..end * row];
            if !bytes.is_empty() {
                let block = SourceBlock { first, bytes, format: from, scale, rounding };
                wait(backend.quantise_weight(WeightId(0), block)).expect("room");
            }
            first = end;
        }
    });

    let (mut groups, mut others) = (0, 0);
    for ((numbers, got), wanted) in numbers.chunks(columns).zip(got.chunks(columns)).zip(wanted.chunks(columns)) {
        for ((x, got), wanted) in numbers.chunks(GROUP).zip(got.chunks(GROUP)).zip(wanted.chunks(GROUP)) {
            groups += 1;
            if got != wanted {
                others += 1;
                // A tie that goes the other way may end a search elsewhere, but not far off.
                let (left, least) = (squared_error(got, x), squared_error(wanted, x));
                assert!(left <= least * 1.25 + 1e-12, "{what}: {got:?}\nfor {x:?}\nwanted {wanted:?}");
            }
        }
    }
    (groups, others)
}

/// Holds tables of every shape, source and rounding to the host's.
pub fn rounds_as_the_host_does() {
    let (mut groups, mut others) = (0, 0);
    // Whole, and in segments.
    for segment in [None, Some(3 << 10)] {
        let options = WebGpuOptions { self_test: false, segment, ..Default::default() };
        let mut backend = wait(WebGpuBackend::new(&options)).expect("the adapter opens");
        assert!(backend.quantises());
        for (to, rounding) in [
            (Quantised::Q8, Rounding::Absmax),
            (Quantised::Q4, Rounding::Absmax),
            (Quantised::Q4, Rounding::MseSearch),
            (Quantised::Q4m, Rounding::Absmax),
            (Quantised::Q4m, Rounding::MseSearch),
        ] {
            for (shape, from, scale) in [
                ((13, 5), WeightFormat::Bf16, 1.0),
                ((64, 97), WeightFormat::F16, 1.0),
                ((2, 8), WeightFormat::F32, -0.37),
                ((31, 42), WeightFormat::F16, 12.0),
                ((30, 66), WeightFormat::F32, 1.0),
                ((63, 512), WeightFormat::Bf16, 0.37),
            ] {
                if to.holds(shape.1) {
                    let (all, not) = compare(&mut backend, shape, to, rounding, from, scale);
                    (groups, others) = (groups + all, others + not);
                }
            }
        }
    }
    println!("{others} of {groups} groups are not the host's");
    assert!(others * 100 <= groups, "{others} of {groups} groups are not the host's");
}

/// What a file sink was given.
#[derive(Default)]
struct Files {
    files: Vec<(String, Vec<u8>)>,
}

impl FileSink for Files {
    fn has<'a>(&'a mut self, _: &'a str, _: u64, _: &'a [u8]) -> LocalBoxFuture<'a, Result<bool, SinkError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn begin<'a>(&'a mut self, name: &'a str, size: u64) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        self.files.push((name.into(), Vec::with_capacity(size as usize)));
        Box::pin(std::future::ready(Ok(())))
    }

    fn append<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        let file = self.files.last_mut().expect("a file that was begun");
        file.1.extend_from_slice(bytes);
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[test]
fn a_checkpoint_converted_on_the_device_is_the_hosts() {
    if !adapter_or_skipped() {
        return;
    }
    // Matrices of widths that end within a word and within a group, and rows that end within a quad.
    let shapes = [("wide", 31, 130), ("narrow", 13, 66), ("tall", 70, 32)];
    let tensors = shapes.map(|(name, rows, columns)| {
        let bytes = encoded(&bell(rows * columns, rows as u32), WeightFormat::Bf16);
        (name, vec![rows, columns], bytes)
    });
    let views = tensors.each_ref().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::BF16, shape.clone(), bytes).expect("as many bytes as numbers"))
    });
    let file = safetensors::serialize(views, None).expect("a file");
    let source = Memory::new().with("config.json", b"{}".to_vec()).with("model.safetensors", file);
    let checkpoint = wait(Checkpoint::open(source)).expect("a checkpoint");
    let mut b = GraphBuilder::new();
    for (name, rows, columns) in shapes {
        b.matrix(name, vec![Part::all(name, &[rows, columns])]);
    }
    let graph = b.finish().expect("a graph");
    let options = WebGpuOptions { self_test: false, ..Default::default() };
    let mut device = wait(WebGpuBackend::new(&options)).expect("the adapter opens");
    for (choice, format) in
        [(WeightChoice::Q8, Quantised::Q8), (WeightChoice::Q4, Quantised::Q4), (WeightChoice::Q4m, Quantised::Q4m)]
    {
        let options = ConvertOptions { storage: Storage::from(choice), shard: 1 << 20 };
        let convert = |quantiser: Option<&mut dyn RowQuantiser>| {
            let mut files = Files::default();
            wait(checkpoint::convert(&checkpoint, &graph, options, quantiser, &mut files, &mut |_| true))
                .expect("files");
            files.files
        };
        let (host, got) = (convert(None), convert(Some(&mut device)));
        assert_eq!(host.len(), got.len());
        for ((name, host), (_, got)) in host.iter().zip(&got) {
            assert_eq!(host.len(), got.len(), "{name}");
            let others = host.iter().zip(got).filter(|(a, b)| a != b).count();
            println!("{} {name}: {others} of {} bytes are not the host's", format.name(), host.len());
            // A group that was rounded otherwise has some 18 bytes.
            assert!(others * 50 <= host.len(), "{others} of {} bytes of {name} are not the host's", host.len());
        }
    }
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    if !adapter_or_skipped() {
        return;
    }
    let options = WebGpuOptions { self_test: false, ..Default::default() };
    let mut backend = wait(WebGpuBackend::new(&options)).expect("the adapter opens");
    let mut refusal = |format, bytes: &[u8]| {
        let desc = WeightDesc { name: "w".into(), rows: 2, columns: 4, format, class: WeightClass::Matrix };
        backend.create_weight(WeightId(0), &desc).expect("room");
        let block = SourceBlock { first: 0, bytes, format: WeightFormat::F32, scale: 1.0, rounding: Rounding::Absmax };
        wait(backend.quantise_weight(WeightId(0), block)).expect_err("nonsense").to_string()
    };
    assert!(refusal(WeightFormat::F16, &[0; 32]).contains("quantised"));
    assert!(refusal(WeightFormat::Q4, &[0; 48]).contains("rows of it"), "three rows for two");
    assert!(refusal(WeightFormat::Q4, &[0; 15]).contains("rows of it"), "no whole row");
}

/// The logits of a golden model that was quantised while it was loaded, on the device or on the host.
fn logits(quantise: bool, weights: WeightChoice) -> Vec<f32> {
    let options = WebGpuOptions { self_test: false, quantise, ..Default::default() };
    let backend = wait(WebGpuBackend::new(&options)).expect("the adapter opens");
    let mut progress = |_: checkpoint::LoadProgress| {};
    let mut options = EngineOptions::new(&mut progress);
    options.weights = weights;
    let mut engine = wait(Engine::load(&checkpoint("hymba/caseA"), Box::new(backend), options)).expect("it loads");
    let slot = engine.open().expect("a slot");
    let span = engine.span(slot, Tokens::Given((5..25).collect()), Outputs::All).expect("a span");
    let running = engine.run(&Step { spans: vec![span] }).expect("a step");
    wait(engine.logits(&running)).expect("logits")
}

#[test]
fn a_model_that_the_device_quantised_computes_the_same() {
    if !adapter_or_skipped() {
        return;
    }
    for weights in [WeightChoice::Q8, WeightChoice::Q4, WeightChoice::Q4m] {
        let (got, wanted) = (logits(true, weights), logits(false, weights));
        let largest = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let difference = got.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        println!("{weights:?}: off by {difference:e} of {largest}");
        assert!(got.len() == wanted.len() && largest > 0.0);
        // A group or two may have been rounded otherwise: much less than quantising itself costs.
        assert!(difference <= 1e-2 * largest, "{weights:?}: off by {difference:e} of {largest}");
    }
}

/// A device that quantises, and what it was told.
#[derive(Default)]
struct Recorder {
    told: Vec<String>,
}

impl WeightSink for Recorder {
    type Error = SinkError;

    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<(), SinkError> {
        self.told.push(format!("{} {}", id.0, desc.format.name()));
        Ok(())
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        self.told.push(format!("{} from {}: {} bytes", id.0, block.first, block.bytes.len()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn quantises(&self) -> bool {
        true
    }

    fn quantise_weight<'a>(
        &'a mut self,
        id: WeightId,
        block: SourceBlock<'a>,
    ) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        let SourceBlock { first, bytes, format, scale, .. } = block;
        self.told.push(format!("{} from {first}: {} bytes of {}, x {scale}", id.0, bytes.len(), format.name()));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Two tensors of 6 rows and 32 columns in bf16, the second with a number where a weight should be.
fn two_tensors(number: f32) -> Checkpoint {
    let mut numbers = bell(6 * 32, 1);
    let one = encoded(&numbers, WeightFormat::Bf16);
    numbers[70] = number;
    let two = encoded(&numbers, WeightFormat::Bf16);
    let view = |bytes| TensorView::new(Dtype::BF16, vec![6, 32], bytes).expect("as many bytes as numbers");
    let file = safetensors::serialize([("one", view(&one)), ("two", view(&two))], None).expect("a file");
    let source = Memory::new().with("config.json", b"{}".to_vec()).with("model.safetensors", file);
    wait(Checkpoint::open(source)).expect("a checkpoint")
}

#[test]
fn a_weight_goes_up_as_it_is_or_is_quantised_by_the_host_whole() {
    let part = |name: &str| Part::all(name, &[6, 32]);
    let mut b = GraphBuilder::new();
    b.matrix("scaled", vec![part("one"), part("two").scaled(0.5)]);
    b.matrix("mapped", vec![part("one"), part("two").mapped(Map::AddOne)]);
    b.weight(WeightRecipe::new("fine", WeightClass::HighPrecision, vec![part("one")]));
    let graph = b.finish().expect("a graph");
    let load = |number, sink: &mut Recorder| {
        wait(checkpoint::load(&two_tensors(number), &graph, WeightChoice::Q4, sink, &mut |_| {}))
    };
    let mut sink = Recorder::default();
    load(0.5, &mut sink).expect("it loads");
    let wanted = [
        "0 q4",
        "0 from 0: 384 bytes of bf16, x 1",
        "0 from 6: 384 bytes of bf16, x 0.5",
        "1 q4",
        "1 from 0: 108 bytes",
        "1 from 6: 108 bytes",
        "2 bf16",
        "2 from 0: 384 bytes",
    ];
    assert_eq!(sink.told, wanted);
    for number in [f32::NAN, f32::NEG_INFINITY, 1e30] {
        let error = load(number, &mut Recorder::default()).expect_err("no weight").to_string();
        let place = if number.is_finite() { "row 2" } else { "[2, 6]" };
        assert!(error.contains("`two`") && error.contains(place), "{error}");
    }
}
