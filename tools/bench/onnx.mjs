// An ONNX model of one `LinearAttention`, written by hand: a model file is a protobuf message, and of that format one
// node needs little. Numbers of fields: onnx.proto3.

const encode = new TextEncoder();

/** An unsigned integer, seven bits a byte, the lowest first. */
function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

/** A field that holds an integer. */
const integer = (field, value) => [...varint(field * 8), ...varint(value)];

/** A field that holds a text or another message. */
function message(field, ...parts) {
  const bytes = parts.flatMap((part) => (typeof part === 'string' ? [...encode.encode(part)] : part));
  return [...varint(field * 8 + 2), ...varint(bytes.length), ...bytes];
}

const FLOAT = 1;
const [INT_ATTRIBUTE, STRING_ATTRIBUTE, FLOAT_ATTRIBUTE] = [2, 3, 1];

/** A tensor of floats that comes in or goes out, each dimension under a name of its own. */
function tensor(field, name, rank) {
  const dimensions = Array.from({ length: rank }, (_, i) => message(1, message(2, `${name}_${i}`)));
  return message(field, message(1, name), message(2, message(1, integer(1, FLOAT), message(2, ...dimensions))));
}

/** `heads` heads of the rule "gated": S <- exp(decay) S + key value^T, output = S^T query. */
export function linearAttention(heads) {
  const attribute = (name, type, value) => message(5, message(1, name), value, integer(20, type));
  const one = [...varint(2 * 8 + 5), ...new Uint8Array(Float32Array.of(1).buffer)];
  const inputs = ['query', 'key', 'value', '', 'decay'];
  const outputs = ['output', 'present_state'];
  const node = message(
    1,
    ...inputs.map((name) => message(1, name)),
    ...outputs.map((name) => message(2, name)),
    message(4, 'LinearAttention'),
    attribute('q_num_heads', INT_ATTRIBUTE, integer(3, heads)),
    attribute('kv_num_heads', INT_ATTRIBUTE, integer(3, heads)),
    attribute('update_rule', STRING_ATTRIBUTE, message(4, 'gated')),
    attribute('scale', FLOAT_ATTRIBUTE, one),
    message(7, 'com.microsoft'),
  );
  const graph = message(
    7,
    node,
    message(2, 'scan'),
    ...inputs.filter(Boolean).map((name) => tensor(11, name, 3)),
    tensor(12, 'output', 3),
    tensor(12, 'present_state', 4),
  );
  const opset = (domain, version) => message(8, message(1, domain), integer(2, version));
  return Uint8Array.from([...integer(1, 10), ...graph, ...opset('', 21), ...opset('com.microsoft', 1)]);
}
