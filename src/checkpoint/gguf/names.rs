//! Tensors of a GGUF file under the names, in the shapes and in the order that transformers gives them.
//!
//! | the converter has | here |
//! |---|---|
//! | put the columns of a rotated pair side by side (rows of q and k; llama, granite) | put back |
//! | ordered value heads by their place within a key head (qwen35) | put back |
//! | stored `-exp(A_log)`, and `1 + w` of norms (qwen35) | undone |
//! | squeezed the kernels of convolutions, shaped decays and norms anew | shapes as they were |
//! | taken gate and up apart (granite), or joined q, k and v | one tensor; three |
//! | stacked the experts of a layer (qwen, lfm2, nemotron_h, jamba) | a tensor for each expert |
//!
//! Source: llama.cpp's converter (`conversion/*.py`) and its table of names (`gguf-py`, `constants.py`).

use std::collections::BTreeMap;

use super::config::{Family, Sizes};
use super::head::Tensor;
use super::rows::{Packed, Segment, Transposed, Undo};
use crate::checkpoint::TensorInfo;

/// A tensor, and the file that holds it.
pub(super) type Placed<'a> = (&'a str, &'a Tensor);

/// What a tensor becomes.
#[derive(Clone, Copy)]
enum Form {
    /// The same.
    Same,
    /// A vector.
    Vector,
    /// `ln(-a)`, a vector.
    Decay,
    /// `ln(-a)`, in the shape that it has.
    Decays,
    /// `w - 1`.
    AddedOne,
    /// The kernel of a convolution, `[channels, 1, d_conv]`.
    Kernel,
    /// Rows of so many heads whose pairs lie side by side.
    Pairs(usize),
    /// Value heads of rows, behind so many rows of q and k; of so many rows each.
    ValueHeads(usize, usize),
    /// Value heads of columns.
    ValueColumns,
    /// A matrix of one row.
    Row,
}

/// All tensors. Faults are sentences that name one.
pub(super) fn tensors(sizes: &Sizes, found: &BTreeMap<&str, Placed>) -> Result<BTreeMap<String, TensorInfo>, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: String, info: TensorInfo| match all.insert(name.clone(), info) {
        None => Ok(()),
        Some(_) => Err(format!("two tensors stand for `{name}`")),
    };
    for (&name, &(file, tensor)) in found {
        let (layer, rest) = match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((number, rest)) => {
                let number = number.parse::<usize>().map_err(|_| format!("tensor `{name}` is in no layer"))?;
                (Some(number), rest)
            }
            None => (None, name),
        };
        let Some(layer) = layer else {
            if let Some((new, form)) = outside(sizes.family, rest) {
                put(new, sizes.info(&[(file, tensor)], form)?)?;
            }
            continue;
        };
        if (sizes.layers..sizes.layers + sizes.ahead).contains(&layer) {
            put(format!("mtp.layers.{layer}.{rest}"), sizes.info(&[(file, tensor)], Form::Same)?)?;
            continue;
        }
        let prefix = format!("{}layers.{layer}.", root(sizes.family));
        let partner = |other: &str| found.get(format!("blk.{layer}.{other}").as_str()).copied();
        match joined(sizes.family, rest) {
            Some(Joined::First(new, other)) => {
                let second =
                    partner(other).ok_or_else(|| format!("tensor `{name}` is there without `blk.{layer}.{other}`"))?;
                put(prefix + new, sizes.info(&[(file, tensor), second], Form::Same)?)?;
                continue;
            }
            Some(Joined::Second) => continue,
            Some(Joined::Each(before, after)) => {
                for (expert, info) in sizes.each_expert(file, tensor)?.into_iter().enumerate() {
                    put(format!("{prefix}{before}.{expert}.{after}"), info)?;
                }
                continue;
            }
            Some(Joined::Apart(suffix)) => {
                for (info, new) in sizes.taken_apart(file, tensor)?.into_iter().zip(["q", "k", "v"]) {
                    put(format!("{prefix}{}{new}_proj.{suffix}", attention(sizes.family)), info)?;
                }
                continue;
            }
            None => {}
        }
        let (new, form) = sizes.within(rest);
        put(prefix + &new, sizes.info(&[(file, tensor)], form)?)?;
    }
    Ok(all)
}

/// In front of every tensor but the head.
fn root(family: Family) -> &'static str {
    if family == Family::NemotronH { "backbone." } else { "model." }
}

/// In front of attention's tensors within a layer.
fn attention(family: Family) -> &'static str {
    if family == Family::NemotronH { "mixer." } else { "self_attn." }
}

/// The name of a tensor outside of the layers; `None` of one that the config has taken up.
fn outside(family: Family, name: &str) -> Option<(String, Form)> {
    let root = root(family);
    let norm = match family {
        Family::NemotronH => "norm_f",
        Family::FalconH1 | Family::Jamba => "final_layernorm",
        _ => "norm",
    };
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let (new, form) = match (stem, family) {
        ("rope_freqs", _) => return None,
        ("output", _) => ("lm_head".to_owned(), Form::Same),
        ("token_embd", Family::NemotronH) => (format!("{root}embeddings"), Form::Same),
        ("token_embd", _) => (format!("{root}embed_tokens"), Form::Same),
        ("token_embd_norm", Family::Lfm2) => (format!("{root}embedding_norm"), Form::Same),
        ("output_norm", Family::Qwen35) => (format!("{root}{norm}"), Form::AddedOne),
        ("output_norm", _) => (format!("{root}{norm}"), Form::Same),
        _ => return Some((name.to_owned(), Form::Same)),
    };
    Some((format!("{new}.{end}"), form))
}

/// Tensors that are one in one of the two and several in the other.
enum Joined {
    /// With another one behind it, this becomes a tensor of such a name.
    First(&'static str, &'static str),
    /// The other one.
    Second,
    /// One an expert: the name before the expert's number and behind it.
    Each(&'static str, &'static str),
    /// q, k and v, with this end.
    Apart(&'static str),
}

fn joined(family: Family, rest: &str) -> Option<Joined> {
    Some(match (family, rest) {
        (Family::Granite, "ffn_gate.weight") => Joined::First("shared_mlp.input_linear.weight", "ffn_up.weight"),
        (Family::Granite, "ffn_gate_shexp.weight") => {
            Joined::First("shared_mlp.input_linear.weight", "ffn_up_shexp.weight")
        }
        (Family::Granite, "ffn_gate_exps.weight") => {
            Joined::First("block_sparse_moe.input_linear.weight", "ffn_up_exps.weight")
        }
        (Family::Granite, "ffn_up.weight" | "ffn_up_shexp.weight" | "ffn_up_exps.weight") => Joined::Second,
        (Family::NemotronH, "ffn_up_exps.weight") => Joined::Each("mixer.experts", "up_proj.weight"),
        (Family::NemotronH, "ffn_down_exps.weight") => Joined::Each("mixer.experts", "down_proj.weight"),
        (Family::Qwen3 | Family::Qwen35, "ffn_gate_exps.weight") => Joined::Each("mlp.experts", "gate_proj.weight"),
        (Family::Qwen3 | Family::Qwen35, "ffn_up_exps.weight") => Joined::Each("mlp.experts", "up_proj.weight"),
        (Family::Qwen3 | Family::Qwen35, "ffn_down_exps.weight") => Joined::Each("mlp.experts", "down_proj.weight"),
        (Family::Jamba, "ffn_gate_exps.weight") => Joined::Each("feed_forward.experts", "gate_proj.weight"),
        (Family::Jamba, "ffn_up_exps.weight") => Joined::Each("feed_forward.experts", "up_proj.weight"),
        (Family::Jamba, "ffn_down_exps.weight") => Joined::Each("feed_forward.experts", "down_proj.weight"),
        (Family::Lfm2, "ffn_gate_exps.weight") => Joined::Each("feed_forward.experts", "w1.weight"),
        (Family::Lfm2, "ffn_down_exps.weight") => Joined::Each("feed_forward.experts", "w2.weight"),
        (Family::Lfm2, "ffn_up_exps.weight") => Joined::Each("feed_forward.experts", "w3.weight"),
        (Family::Qwen35, _) => return None,
        (_, "attn_qkv.weight") => Joined::Apart("weight"),
        (_, "attn_qkv.bias") => Joined::Apart("bias"),
        _ => return None,
    })
}

impl Sizes {
    /// Name and form of a tensor of a layer. One that is not known keeps its name, and is refused as unread.
    fn within(&self, rest: &str) -> (String, Form) {
        let family = self.family;
        let (stem, end) = rest.rsplit_once('.').unwrap_or((rest, "weight"));
        let (queries, keys) =
            self.rotated_pairs.map_or((Form::Same, Form::Same), |(q, k)| (Form::Pairs(q), Form::Pairs(k)));
        let norm = if family == Family::Qwen35 { Form::AddedOne } else { Form::Same };
        let [key_heads, _, key, value] = self.delta;
        let before_values = 2 * key_heads * key;
        let mamba = if family == Family::NemotronH { "mixer" } else { "mamba" };
        let own = attention(family);
        let named = |new: &str| format!("{new}.{end}");
        match (family, stem) {
            (Family::NemotronH, "attn_norm") => (named("norm"), Form::Same),
            (Family::Lfm2, "attn_norm") => (named("operator_norm"), Form::Same),
            (_, "attn_norm") => (named("input_layernorm"), norm),
            (Family::Lfm2, "ffn_norm") => (named("ffn_norm"), Form::Same),
            // Named without an end by some writers.
            (Family::FalconH1 | Family::Jamba, "ffn_norm") => (named("pre_ff_layernorm"), Form::Same),
            (Family::Qwen35, "post_attention_norm") | (_, "ffn_norm") => (named("post_attention_layernorm"), norm),

            (_, "attn_q") => (named(&format!("{own}q_proj")), queries),
            (_, "attn_k") => (named(&format!("{own}k_proj")), keys),
            (_, "attn_v") => (named(&format!("{own}v_proj")), Form::Same),
            (Family::Lfm2, "attn_output") => (named("self_attn.out_proj"), Form::Same),
            (_, "attn_output") => (named(&format!("{own}o_proj")), Form::Same),
            (Family::Lfm2, "attn_q_norm") => (named("self_attn.q_layernorm"), Form::Same),
            (Family::Lfm2, "attn_k_norm") => (named("self_attn.k_layernorm"), Form::Same),
            (_, "attn_q_norm") => (named("self_attn.q_norm"), norm),
            (_, "attn_k_norm") => (named("self_attn.k_norm"), norm),

            (Family::Qwen35, "attn_qkv") => (named("linear_attn.in_proj_qkv"), Form::ValueHeads(before_values, value)),
            (Family::Qwen35, "attn_gate") => (named("linear_attn.in_proj_z"), Form::ValueHeads(0, value)),
            (Family::Qwen35, "ssm_beta") => (named("linear_attn.in_proj_b"), Form::ValueHeads(0, 1)),
            (Family::Qwen35, "ssm_alpha") => (named("linear_attn.in_proj_a"), Form::ValueHeads(0, 1)),
            (Family::Qwen35, "ssm_a") => ("linear_attn.A_log".into(), Form::Decay),
            (Family::Qwen35, "ssm_dt") => ("linear_attn.dt_bias".into(), Form::ValueHeads(0, 1)),
            (Family::Qwen35, "ssm_conv1d") => (named("linear_attn.conv1d"), Form::Kernel),
            (Family::Qwen35, "ssm_norm") => (named("linear_attn.norm"), Form::Same),
            // Both of Qwen3-Next, the latter in older files.
            (Family::Qwen35, "ssm_ba") => (named("linear_attn.in_proj_ba"), Form::Same),
            (Family::Qwen35, "ssm_in") => (named("linear_attn.in_proj_qkvz"), Form::Same),
            (Family::Qwen35, "ssm_out") => (named("linear_attn.out_proj"), Form::ValueColumns),
            (Family::Jamba, "ssm_x") => (named("mamba.x_proj"), Form::Same),
            (Family::Jamba, "ssm_dt") => (named("mamba.dt_proj"), Form::Same),
            (Family::Jamba, "ssm_dt_norm" | "ssm_b_norm" | "ssm_c_norm") => {
                (named(&format!("mamba.{}_layernorm", &stem[4..stem.len() - 5])), Form::Same)
            }
            (Family::Jamba, "ssm_a") => ("mamba.A_log".into(), Form::Decays),
            (_, "ssm_in") => (named(&format!("{mamba}.in_proj")), Form::Same),
            (_, "ssm_conv1d") if end == "weight" => (format!("{mamba}.conv1d.weight"), Form::Kernel),
            (_, "ssm_conv1d") => (named(&format!("{mamba}.conv1d")), Form::Same),
            (_, "ssm_dt") => (format!("{mamba}.dt_bias"), Form::Vector),
            (_, "ssm_a") => (format!("{mamba}.A_log"), Form::Decay),
            (_, "ssm_d") => (format!("{mamba}.D"), Form::Vector),
            (_, "ssm_norm") => (named(&format!("{mamba}.norm")), Form::Vector),
            (_, "ssm_out") => (named(&format!("{mamba}.out_proj")), Form::Same),

            (Family::Lfm2, "shortconv.in_proj") => (named("conv.in_proj"), Form::Same),
            (Family::Lfm2, "shortconv.out_proj") => (named("conv.out_proj"), Form::Same),
            (Family::Lfm2, "shortconv.conv") if end == "weight" => ("conv.conv.weight".into(), Form::Kernel),
            (Family::Lfm2, "shortconv.conv") => (named("conv.conv"), Form::Same),

            (Family::Lfm2, "ffn_gate_inp") => (named("feed_forward.gate"), Form::Same),
            (Family::Lfm2, "exp_probs_b") => ("feed_forward.expert_bias".into(), Form::Same),
            (Family::Lfm2, "ffn_gate") => (named("feed_forward.w1"), Form::Same),
            (Family::Lfm2, "ffn_down") => (named("feed_forward.w2"), Form::Same),
            (Family::Lfm2, "ffn_up") => (named("feed_forward.w3"), Form::Same),
            (Family::NemotronH, "ffn_up") => (named("mixer.up_proj"), Form::Same),
            (Family::NemotronH, "ffn_down") => (named("mixer.down_proj"), Form::Same),
            (Family::NemotronH, "ffn_gate_inp") => (named("mixer.gate"), Form::Same),
            (Family::NemotronH, "exp_probs_b") => ("mixer.gate.e_score_correction_bias".into(), Form::Same),
            (Family::NemotronH, "ffn_up_shexp") => (named("mixer.shared_experts.up_proj"), Form::Same),
            (Family::NemotronH, "ffn_down_shexp") => (named("mixer.shared_experts.down_proj"), Form::Same),
            (Family::NemotronH, "ffn_latent_down") => (named("mixer.fc1_latent_proj"), Form::Same),
            (Family::NemotronH, "ffn_latent_up") => (named("mixer.fc2_latent_proj"), Form::Same),
            (Family::Granite, "ffn_down" | "ffn_down_shexp") => (named("shared_mlp.output_linear"), Form::Same),
            (Family::Granite, "ffn_gate_inp") => (named("block_sparse_moe.router.layer"), Form::Same),
            (Family::Granite, "ffn_down_exps") => (named("block_sparse_moe.output_linear"), Form::Same),
            (Family::Jamba, "ffn_gate_inp") => (named("feed_forward.router"), Form::Same),
            (Family::FalconH1 | Family::Jamba, "ffn_gate" | "ffn_up" | "ffn_down") => {
                (named(&format!("feed_forward.{}_proj", &stem[4..])), Form::Same)
            }
            (_, "ffn_gate_inp") => (named("mlp.gate"), Form::Same),
            (_, "ffn_gate_inp_shexp") => (named("mlp.shared_expert_gate"), Form::Row),
            (_, "ffn_gate_shexp" | "ffn_up_shexp" | "ffn_down_shexp") => {
                (named(&format!("mlp.shared_expert.{}_proj", &stem[4..stem.len() - 6])), Form::Same)
            }
            (_, "ffn_gate" | "ffn_up" | "ffn_down") => (named(&format!("mlp.{}_proj", &stem[4..])), Form::Same),
            _ => (rest.to_owned(), Form::Same),
        }
    }

    /// The one tensor that others become: rows of the first, then of the second, expert by expert.
    fn info(&self, parts: &[Placed], form: Form) -> Result<TensorInfo, String> {
        let (file, tensor) = parts[0];
        let fail = |what: String| format!("tensor `{}` {what}", tensor.name);
        if let Some((_, other)) =
            parts[1..].iter().find(|(_, other)| other.kind != tensor.kind || other.shape != tensor.shape)
        {
            return Err(fail(format!(
                "is {} {:?}, and `{}` {} {:?}: one tensor is made of both, so they must be alike",
                tensor.kind, tensor.shape, other.name, other.kind, other.shape
            )));
        }
        let stacked = tensor.shape.len() == 3 && tensor.shape[0] == self.experts;
        if parts.len() > 1 && tensor.shape.len() != 2 && !stacked {
            let shape = &tensor.shape;
            return Err(fail(format!("has shape {shape:?}, must be a matrix or a stack of {} experts", self.experts)));
        }
        let flat = tensor.shape.len() < 2 || matches!(form, Form::Vector | Form::Decay);
        let row = matches!(form, Form::Row);
        let columns = tensor.shape.last().copied().filter(|_| !flat || row).unwrap_or(1);
        let numbers: usize = tensor.shape.iter().product();
        let rows = numbers.checked_div(columns).unwrap_or(0);
        let row_bytes = tensor.kind.row_bytes(columns) as u64;
        let segment = |(file, tensor): &Placed, first: usize, rows: usize, order| Segment {
            file: (*file).to_owned(),
            start: tensor.range.start + first as u64 * row_bytes,
            rows,
            order,
        };
        let mut shape = tensor.shape.clone();
        let mut segments: Vec<Segment> = vec![];
        let (mut column_order, mut undo) = (None, Undo::Nothing);
        let mut orders = vec![(rows, None)];
        let [key_heads, value_heads, key, value] = self.delta;
        let by_key = |block| Transposed { outer: key_heads.max(1), inner: value_heads / key_heads.max(1), block };
        let reordered = value_heads > key_heads;
        match form {
            Form::Same => {}
            Form::Vector => shape = vec![numbers],
            Form::Row => shape = vec![rows, columns],
            Form::Decay => {
                (shape, undo) = (vec![numbers], Undo::NegExp);
                orders = vec![(rows, reordered.then(|| by_key(1)))];
            }
            Form::Decays => undo = Undo::NegExp,
            Form::AddedOne => undo = Undo::AddOne,
            Form::Kernel => {
                if tensor.shape.len() != 2 {
                    return Err(fail(format!("has shape {:?}, must have channels and columns", tensor.shape)));
                }
                shape = vec![rows, 1, columns];
                let before = 2 * key_heads * key;
                if reordered && before < rows {
                    orders = vec![(before, None), (rows - before, Some(by_key(value)))];
                }
            }
            Form::Pairs(heads) => {
                let head = rows.checked_div(heads).unwrap_or(0);
                orders = vec![(rows, Some(Transposed { outer: 2, inner: head / 2, block: 1 }))];
            }
            Form::ValueHeads(before, block) if reordered => {
                let after = rows
                    .checked_sub(before)
                    .ok_or_else(|| fail(format!("has {rows} rows; before its values are {before}")))?;
                orders = vec![(before, None), (after, Some(by_key(block)))];
            }
            Form::ValueColumns if reordered => column_order = Some(by_key(value)),
            Form::ValueHeads(..) | Form::ValueColumns => {}
        }
        // Of several experts, each one's rows of the first stand before those of the second.
        if parts.len() > 1 {
            let experts = if shape.len() == 3 { shape[0] } else { 1 };
            let each = rows.checked_div(experts).unwrap_or(0);
            for expert in 0..experts {
                segments.extend(parts.iter().map(|part| segment(part, expert * each, each, None)));
            }
            let height = shape.len().saturating_sub(2);
            shape[height] *= parts.len();
        } else {
            let mut first = 0;
            for (count, order) in orders.into_iter().filter(|(count, _)| *count > 0) {
                segments.push(segment(&parts[0], first, count, order));
                first += count;
            }
        }
        let packed = Packed { kind: tensor.kind, segments, columns: column_order, undo };
        finish(file, tensor, shape, packed)
    }

    /// A tensor for each expert of a stack of them.
    fn each_expert(&self, file: &str, tensor: &Tensor) -> Result<Vec<TensorInfo>, String> {
        let [experts, rows, columns] = tensor.shape[..] else {
            return Err(format!("tensor `{}` has shape {:?}, must be a stack of experts", tensor.name, tensor.shape));
        };
        if experts != self.experts {
            return Err(format!("tensor `{}` has {experts} experts, the metadata {}", tensor.name, self.experts));
        }
        let bytes = (rows * tensor.kind.row_bytes(columns)) as u64;
        let one = |expert: usize| {
            let start = tensor.range.start + expert as u64 * bytes;
            let segments = vec![Segment { file: file.to_owned(), start, rows, order: None }];
            finish(
                file,
                tensor,
                vec![rows, columns],
                Packed { kind: tensor.kind, segments, columns: None, undo: Undo::Nothing },
            )
        };
        (0..experts).map(one).collect()
    }

    /// q, k and v of a tensor that holds all three.
    fn taken_apart(&self, file: &str, tensor: &Tensor) -> Result<Vec<TensorInfo>, String> {
        let (rows, columns) = match tensor.shape[..] {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => {
                return Err(format!(
                    "tensor `{}` has shape {:?}, must be a matrix or a vector",
                    tensor.name, tensor.shape
                ));
            }
        };
        if rows != self.qkv.iter().sum::<usize>() {
            return Err(format!("tensor `{}` has {rows} rows; q, k and v have {:?}", tensor.name, self.qkv));
        }
        let row_bytes = tensor.kind.row_bytes(columns) as u64;
        let heads = self.rotated_pairs.map_or([None; 3], |(q, k)| [Some(q), Some(k), None]);
        let mut first = 0;
        let parts = self.qkv.into_iter().zip(heads).map(|(rows, heads)| {
            let start = tensor.range.start + first as u64 * row_bytes;
            first += rows;
            let order =
                heads.map(|heads| Transposed { outer: 2, inner: rows.checked_div(heads).unwrap_or(0) / 2, block: 1 });
            let shape = if tensor.shape.len() == 1 { vec![rows] } else { vec![rows, columns] };
            let segments = vec![Segment { file: file.to_owned(), start, rows, order }];
            finish(file, tensor, shape, Packed { kind: tensor.kind, segments, columns: None, undo: Undo::Nothing })
        });
        parts.collect()
    }
}

fn finish(file: &str, tensor: &Tensor, shape: Vec<usize>, packed: Packed) -> Result<TensorInfo, String> {
    let dtype = tensor.kind.dtype();
    let info = TensorInfo {
        dtype,
        shape,
        file: file.to_owned(),
        range: tensor.range.clone(),
        planes: vec![],
        packed: Some(Box::new(packed)),
        merged: None,
    };
    if let Some(packed) = &info.packed {
        packed.check(&info.dtype, info.columns()).map_err(|what| format!("tensor `{}` {what}", tensor.name))?;
    }
    Ok(info)
}
