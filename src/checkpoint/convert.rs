//! Writes a checkpoint anew in other formats: the layout of the ecosystem's folders, with quantised tensors as
//! [`planes`](super::planes) describes them. The same source and options give the same bytes
//! (but where a device rounds: [`RowQuantiser`]).
//!
//! Tensors keep their names and their order in the source. Shards are written one after the other, each whole
//! before it gets its name, so that a conversion that was cut goes on with the first shard that is not there.
//! `config.json` comes last: a folder without it is no model yet.

use std::collections::BTreeMap;

use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::loader::{BLOCK, overflow};
use super::numbers::Conversion;
use super::planes::{FP8_SCALE, METHOD, MINIMUMS, SCALES};
use super::{
    CONFIG, Checkpoint, CheckpointError, Dtype, INDEX, LoadProgress, SINGLE, SinkError, Storage, TensorInfo,
    check_size, largest, safetensors, stored,
};
use crate::formats::{GROUP, Quantised, Rounding};
use crate::graph::{Graph, RowQuantiser, SourceBlock, WeightClass, WeightFormat};
use crate::json;

/// Small files of a model folder that go along as they are.
pub const COMPANIONS: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "preprocessor_config.json",
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "NOTICE",
];

/// Takes files: a folder, a browser's store.
pub trait FileSink {
    /// True if a finished file of this name, from this source with these options, has `size` bytes and begins with
    /// `head`.
    fn has<'a>(&'a mut self, name: &'a str, size: u64, head: &'a [u8]) -> LocalBoxFuture<'a, Result<bool, SinkError>>;

    /// Begins a file, in place of one that may be there.
    fn begin<'a>(&'a mut self, name: &'a str, size: u64) -> LocalBoxFuture<'a, Result<(), SinkError>>;

    /// Appends to the file begun last.
    fn append<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), SinkError>>;

    /// Gives the file its name: it is whole.
    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SinkError>>;
}

/// Options of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct ConvertOptions {
    /// Formats and rounding.
    pub storage: Storage,
    /// Bytes of a shard, unless a single tensor has more.
    pub shard: u64,
}

/// Writes a checkpoint whose tensors the graph uses as the graph's recipes say. Numbers of 16 and 32 bits are rounded by
/// `quantiser`, if there is one. `progress` returns whether to go on.
pub async fn convert(
    checkpoint: &Checkpoint,
    graph: &Graph,
    options: ConvertOptions,
    mut quantiser: Option<&mut dyn RowQuantiser>,
    sink: &mut dyn FileSink,
    progress: &mut dyn FnMut(LoadProgress) -> bool,
) -> Result<(), CheckpointError> {
    let config = config(checkpoint, options.storage)?;
    let targets = targets(checkpoint, graph, options.storage)?;
    let shards = shards(targets, options.shard);
    for name in COMPANIONS {
        // Hours before it would be read.
        check_size(&checkpoint.source, name, largest(name)).await?;
    }
    let names: Vec<String> = match shards.len() {
        1 => vec![SINGLE.into()],
        count => (1..=count).map(|i| format!("model-{i:05}-of-{count:05}.safetensors")).collect(),
    };
    let mut writing = Writing { sink, file: String::new() };
    let total = shards.iter().flatten().map(|target| target.source_bytes()).sum();
    let mut done = 0;
    for (shard, name) in shards.iter().zip(&names) {
        let (head, size) = header(shard);
        let size = head.len() as u64 + size;
        if writing.has(name, size, &head).await? {
            done += shard.iter().map(Target::source_bytes).sum::<u64>();
            proceed(progress(LoadProgress { done, total, tensor: name }))?;
            continue;
        }
        writing.begin(name, size).await?;
        writing.append(&head).await?;
        for target in shard {
            let tensor = &target.name;
            let mut progress = |bytes| {
                done += bytes;
                progress(LoadProgress { done, total, tensor })
            };
            let rounding = options.storage.rounding;
            target.write(checkpoint, rounding, &mut quantiser, &mut writing, &mut progress).await?;
        }
        writing.finish().await?;
    }
    if names.len() > 1 {
        writing.whole(INDEX, index(&shards, &names).as_bytes()).await?;
    }
    for name in COMPANIONS {
        if let Some(bytes) = checkpoint.file(name).await? {
            writing.whole(name, &bytes).await?;
        }
    }
    writing.whole(CONFIG, config.as_bytes()).await
}

/// The source's config with what was done to the weights.
fn config(checkpoint: &Checkpoint, storage: Storage) -> Result<String, CheckpointError> {
    const FIELD: &str = "quantization_config";
    let text = checkpoint.config();
    let fail = |what: String| CheckpointError::Text { file: checkpoint.describe(CONFIG), what };
    let format = storage.choice.format(WeightClass::Matrix, GROUP, [WeightFormat::F32]);
    let quantised = matches!(format, WeightFormat::Quantised(_));
    let rounding = storage.rounding.name();
    let said = json!({
        "quant_method": METHOD, "version": 1, "weights": format.name(), "group_size": GROUP, "rounding": rounding,
    });
    // Other fields stay as they are, to the letter: some configs hold numbers that are not JSON's.
    let mut parsed = json::parse(text).ok();
    if let Some(config) = parsed.as_mut().and_then(Value::as_object_mut)
        && config.remove(FIELD).is_some()
    {
        if quantised {
            config.insert(FIELD.into(), said);
        }
        return serde_json::to_string_pretty(config).map_err(|e| fail(e.to_string()));
    }
    if !quantised {
        return Ok(text.to_owned());
    }
    let open = text.find('{').ok_or_else(|| fail("is not a JSON object".into()))? + 1;
    let comma = if text[open..].trim_start().starts_with('}') { "" } else { "," };
    Ok(format!("{}\n  \"{FIELD}\": {said}{comma}{}", &text[..open], &text[open..]))
}

/// A tensor to be written.
struct Target {
    name: String,
    info: TensorInfo,
    /// `None`: as it is.
    format: Option<WeightFormat>,
    /// The model uses it. Unused tensors may hold anything: masks hold infinities.
    used: bool,
}

/// All tensors in the order of the source, each in the finest format that a weight made of it asks for.
fn targets(checkpoint: &Checkpoint, graph: &Graph, storage: Storage) -> Result<Vec<Target>, CheckpointError> {
    let mut formats: BTreeMap<&str, Option<WeightFormat>> = BTreeMap::new();
    // Files have no FP8 of groups.
    let storage = Storage { widens_fp8: true, ..storage };
    for (recipe, desc) in graph.weights.iter().zip(stored(checkpoint, graph, storage)?) {
        let wanted = (recipe.class != WeightClass::Vector).then_some(desc.format);
        for part in &recipe.parts {
            let format = formats.entry(&part.tensor).or_insert(wanted);
            // Eight columns tell how fine a format is.
            let fineness = |format: WeightFormat| format.row_bytes(8 * GROUP);
            *format = format.zip(wanted).map(|(a, b)| if fineness(a) >= fineness(b) { a } else { b });
        }
    }
    let target = |(name, info): (&String, &TensorInfo)| {
        // As they lie in the file only where that is as they are.
        let own = match info.dtype {
            Dtype::Quantised(_) | Dtype::Scaled(_) | Dtype::Merged(_) => {
                info.dtype.format().map(WeightFormat::without_fp8)
            }
            _ => info.packed.as_ref().and_then(|_| info.dtype.format()),
        };
        let used = formats.get(name.as_str()).copied();
        let format = used.flatten().or(own);
        Target { name: name.clone(), info: info.clone(), format, used: used.is_some() }
    };
    // Types of a GGUF file that cannot be read have no name elsewhere.
    let named = |(_, info): &(&String, &TensorInfo)| info.packed.is_none() || info.dtype.format().is_some();
    let mut targets: Vec<Target> = checkpoint.tensors().iter().filter(named).map(target).collect();
    targets.sort_by(|a, b| (&a.info.file, a.info.range.start).cmp(&(&b.info.file, b.info.range.start)));
    Ok(targets)
}

/// Cuts tensors into shards.
fn shards(targets: Vec<Target>, most: u64) -> Vec<Vec<Target>> {
    let mut shards = vec![vec![]];
    let mut size = 0;
    for target in targets {
        let bytes = target.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>();
        if size > 0 && size + bytes > most {
            shards.push(vec![]);
            size = 0;
        }
        size += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(target);
        }
    }
    shards
}

/// The header of a shard, and how many bytes follow it.
fn header(shard: &[Target]) -> (Vec<u8>, u64) {
    let mut at = 0;
    let mut entries = vec![r#""__metadata__":{"format":"pt"}"#.to_owned()];
    for Tensor { name, dtype, shape, bytes } in shard.iter().flat_map(Target::tensors) {
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] });
        entries.push(format!("{}:{entry}", Value::from(name)));
        at += bytes;
    }
    (safetensors::head(format!("{{{}}}", entries.join(","))), at)
}

/// Which tensor is in which shard.
fn index(shards: &[Vec<Target>], names: &[String]) -> String {
    let mut map = BTreeMap::new();
    let mut total = 0;
    for (shard, file) in shards.iter().zip(names) {
        for tensor in shard.iter().flat_map(Target::tensors) {
            total += tensor.bytes;
            map.insert(tensor.name, file);
        }
    }
    format!("{:#}\n", json!({ "metadata": { "total_size": total }, "weight_map": map }))
}

/// An entry of a header.
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: u64,
}

impl Target {
    /// Rows: the product of all dimensions but the last, or the only one.
    fn height(&self) -> usize {
        match self.info.shape.as_slice() {
            [others @ .., _] if !others.is_empty() => others.iter().product(),
            shape => shape.iter().product(),
        }
    }

    fn source_bytes(&self) -> u64 {
        self.info.places().into_iter().map(|(_, range)| range.end - range.start).sum()
    }

    /// The tensors that stand for it in the file: one, or its planes.
    fn tensors(&self) -> Vec<Tensor> {
        let Target { name, info, format, .. } = self;
        let tensor = |suffix: &str, dtype: &str, shape: Vec<usize>, bytes: u64| Tensor {
            name: format!("{name}{suffix}"),
            dtype: dtype.into(),
            shape,
            bytes,
        };
        let Some(format) = format else {
            let bytes = info.range.end - info.range.start;
            let scale = info.planes.first().map(|p| tensor(FP8_SCALE, "F32", vec![], p.range.end - p.range.start));
            return [tensor("", &info.dtype.to_string(), info.shape.clone(), bytes)].into_iter().chain(scale).collect();
        };
        let (height, columns) = (self.height() as u64, info.columns());
        let WeightFormat::Quantised(quantised) = format else {
            let dtype = format.name().to_uppercase();
            return vec![tensor("", &dtype, info.shape.clone(), height * format.row_bytes(columns) as u64)];
        };
        let others = &info.shape[..info.shape.len() - 1];
        let shape = |last: usize| [others, &[last]].concat();
        let [codes, scales, minimums] = quantised.planes(columns);
        let dtype = if *quantised == Quantised::Q8 { "I8" } else { "U8" };
        let mut tensors = vec![tensor("", dtype, shape(codes), height * codes as u64)];
        for (suffix, bytes) in [(SCALES, scales), (MINIMUMS, minimums)] {
            if bytes > 0 {
                tensors.push(tensor(suffix, "F16", shape(bytes / 2), height * bytes as u64));
            }
        }
        tensors
    }

    /// Writes its tensors, block by block. `progress` is called with bytes of the source and returns true to go on.
    async fn write(
        &self,
        checkpoint: &Checkpoint,
        rounding: Rounding,
        quantiser: &mut Option<&mut dyn RowQuantiser>,
        writing: &mut Writing<'_>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), CheckpointError> {
        let Target { name, info, format, used } = self;
        let Some(format) = *format else {
            if *used {
                checkpoint.fp8_scale(name, info).await?;
            }
            let scale = info.planes.iter().map(|plane| (&plane.file, &plane.range, false));
            for (file, range, check) in [(&info.file, &info.range, *used)].into_iter().chain(scale) {
                for from in range.clone().step_by(BLOCK) {
                    let to = range.end.min(from + BLOCK as u64);
                    let bytes = checkpoint.source.read(file, from..to).await?;
                    if check {
                        let number_bytes = (info.row_bytes() / info.columns().max(1)).max(1) as u64;
                        let first = ((from - range.start) / number_bytes) as usize;
                        checkpoint.check_finite(name, info, first, &bytes)?;
                    }
                    writing.append(&bytes).await?;
                    proceed(progress(to - from))?;
                }
            }
            return Ok(());
        };
        let conversion = Conversion::new(checkpoint, name, info, format, rounding).await?;
        let (height, row_bytes) = (self.height(), format.row_bytes(info.columns()));
        let block_rows = (BLOCK / row_bytes.max(info.row_bytes()).max(1)).max(1);
        // Codes go out as they are made; the other planes follow them.
        let (mut rest, mut block, mut codes) = ([vec![], vec![]], vec![], vec![]);
        for first in (0..height).step_by(block_rows) {
            let rows = first..height.min(first + block_rows);
            let source = checkpoint.rows(name, info, rows.clone()).await?;
            let fault = |fault| overflow(checkpoint, name, info, first, format, fault);
            if let WeightFormat::Quantised(quantised) = format
                && let Some((format, scale)) = conversion.of_many_bits()
                && let Some(quantiser) = quantiser.as_mut()
            {
                conversion.check(&source).map_err(fault)?;
                let rows = SourceBlock { first: 0, bytes: &source, format, scale, rounding };
                let made = quantiser.quantise(quantised, info.columns(), rows).await;
                block = made.map_err(|source| CheckpointError::Sink { weight: name.clone(), source })?;
            } else {
                block.clear();
                block.resize(rows.len() * row_bytes, 0);
                conversion.run(&source, &mut block).map_err(fault)?;
            }
            let bytes = if let WeightFormat::Quantised(quantised) = format {
                codes.clear();
                for row in block.chunks_exact(row_bytes.max(1)) {
                    let planes = quantised.split(row, info.columns());
                    codes.extend_from_slice(planes.codes);
                    rest[0].extend_from_slice(planes.scales);
                    rest[1].extend_from_slice(planes.minimums);
                }
                &codes
            } else {
                &block
            };
            writing.append(bytes).await?;
            // Of a merged tensor, its base's.
            let share = |row: usize| self.source_bytes() * row as u64 / height as u64;
            proceed(progress(if info.merged.is_some() {
                share(rows.end) - share(first)
            } else {
                source.len() as u64
            }))?;
        }
        for plane in &rest {
            writing.append(plane).await?;
        }
        Ok(())
    }
}

fn proceed(go_on: bool) -> Result<(), CheckpointError> {
    if go_on { Ok(()) } else { Err(CheckpointError::Stopped) }
}

/// A sink whose faults name the file.
struct Writing<'s> {
    sink: &'s mut dyn FileSink,
    file: String,
}

impl Writing<'_> {
    fn fault(&self) -> impl Fn(SinkError) -> CheckpointError + use<> {
        let file = self.file.clone();
        move |source| CheckpointError::Write { file: file.clone(), source }
    }

    async fn has(&mut self, name: &str, size: u64, head: &[u8]) -> Result<bool, CheckpointError> {
        self.file = name.into();
        self.sink.has(name, size, head).await.map_err(self.fault())
    }

    async fn begin(&mut self, name: &str, size: u64) -> Result<(), CheckpointError> {
        self.file = name.into();
        self.sink.begin(name, size).await.map_err(self.fault())
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.sink.append(bytes).await.map_err(self.fault())
    }

    async fn finish(&mut self) -> Result<(), CheckpointError> {
        self.sink.finish().await.map_err(self.fault())
    }

    async fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.begin(name, bytes.len() as u64).await?;
        self.append(bytes).await?;
        self.finish().await
    }
}
