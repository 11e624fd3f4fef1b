// What GitHub itself makes of workflows and expressions: its own parser and its own engine, on stdin and stdout.
// in:  {"workflows": {name: text}, "expressions": [[text, contexts, status], ...]}
// out: {"workflows": {name: [message, ...]}, "values": [value, ...]}
import { register } from "node:module";

register("./hooks.mjs", import.meta.url);
const { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } = await import("@actions/workflow-parser");
const { data, Evaluator, Lexer, Parser } = await import("@actions/expressions");
const STATUS = ["success", "failure", "always", "cancelled"];

async function faults(name, content) {
  const parsed = parseWorkflow({ name, content }, new NoOperationTraceWriter());
  const found = parsed.context.errors.getErrors().map((error) => error.message);
  if (parsed.value === undefined || found.length > 0) return found;
  const template = await convertWorkflowTemplate(parsed.context, parsed.value);
  return (template.errors ?? []).map((error) => error.Message);
}

function toData(value) {
  if (value === null || value === undefined) return new data.Null();
  if (typeof value === "boolean") return new data.BooleanData(value);
  if (typeof value === "number") return new data.NumberData(value);
  if (typeof value === "string") return new data.StringData(value);
  if (Array.isArray(value)) return new data.Array(...value.map(toData));
  return new data.Dictionary(...Object.entries(value).map(([key, inner]) => ({ key, value: toData(inner) })));
}

function fromData(value) {
  if (value.kind === data.Kind.Array) return value.values().map(fromData);
  if (value.kind === data.Kind.Dictionary)
    return Object.fromEntries(value.pairs().map(({ key, value: inner }) => [key, fromData(inner)]));
  return value.kind === data.Kind.Null ? null : value.value;
}

function evaluated(text, contexts, status) {
  const functions = STATUS.map((name) => ({
    name,
    minArgs: 0,
    maxArgs: 0,
    call: () => new data.BooleanData(status[name]),
  }));
  const { tokens } = new Lexer(text).lex();
  const tree = new Parser(tokens, Object.keys(contexts), functions).parse();
  return fromData(new Evaluator(tree, toData(contexts), new Map(functions.map((one) => [one.name, one]))).evaluate());
}

let given = "";
for await (const chunk of process.stdin) given += chunk;
const { workflows, expressions } = JSON.parse(given);
const found = {};
for (const [name, text] of Object.entries(workflows)) found[name] = await faults(name, text);
const values = expressions.map((one) => evaluated(...one));
process.stdout.write(JSON.stringify({ workflows: found, values }));
