// Scores records with a plan that `scoreline export MODEL --to json` wrote: docs/plan-format.md in JavaScript.
//
//     node examples/node/score_plan.mjs pima-3.json < records.jsonl
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const fail = (why) => { throw new Error(why); };
const finite = (row) => row.every(Number.isFinite) ? row : fail("a step is given infinity or NaN");
const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);
const dot = (weights, row) => sum(weights.map((weight, i) => weight * row[i]));
const best = (row) => row.indexOf(Math.max(...row));
const by = (operand, i, none) => operand === undefined ? none : operand.length > 1 ? operand[i] : [operand].flat()[0];
const rint = (x) => Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
const functions = { absolute: Math.abs, fabs: Math.abs, arctan: Math.atan, arcsinh: Math.asinh, exp2: (x) => 2 ** x,
  square: (x) => x * x, reciprocal: (x) => 1 / x, negative: (x) => -x, rint };

function codes(step, values) {  // the place of each value among the categories of its column, -1 for none
  return values.map((value, i) => {
    const place = step.categories[i].indexOf(Number.isNaN(value) ? null : value);
    return place < 0 && step.unknown === "error" ? fail(`${value} is none of the categories`) : place;
  });
}

function classified(step, scores, place) {
  if (step.link === "none") return { value: step.classes[place] };
  const all = step.link === "softmax of two" ? [-scores[0], scores[0]] : scores;
  const odds = step.link.startsWith("softmax") ? all.map((one) => Math.exp(one - Math.max(...all)))
    : all.map((one) => 1 / (1 + Math.exp(step.link === "expit of twice" ? -2 * one : -one)));
  if (odds.length === 1) odds.unshift(1 - odds[0]);
  return { value: step.classes[place], probabilities: odds.map((one) => one / sum(odds)) };
}

function leaf(tree, row) {
  let node = 0;
  while (tree.left[node] >= 0) {
    const value = row[tree.feature[node]];
    const goesLeft = Number.isNaN(value) ? tree.nan_left.includes(node) : value <= tree.threshold[node];
    node = goesLeft ? tree.left[node] : tree.right[node];
  }
  return [tree.value[node]].flat();
}

const small = (row, nan) => row.map((value) => Math.fround(value))
  .map((value) => Number.isFinite(value) || (nan && Number.isNaN(value)) ? value : fail("infinity or NaN"));
const add = (rows) => rows.reduce((total, row) => total.map((one, i) => one + row[i]));

const operations = {
  numbers: (step, record) => step.names.map((name) => record[name] === null ? NaN : Number(record[name]))
    .map((x, i) => step.rounded?.includes(i) ? Math.fround(x) : x),
  values: (step, record) => step.names.map((name) => record[name]),
  concat: (_, ...rows) => rows.flat(),
  pick: (step, row) => step.columns.map((column) => (step.finite ? finite(row) : row)[column]),
  scale: (step, row) => row.map((x, i) => (x * by(step.multiply, i, 1) + by(step.add, i, 0)
    - by(step.subtract, i, 0)) / by(step.divide, i, 1)).map((x) => step.clip && x === x ? Math.min(Math.max(x, step.clip[0]), step.clip[1]) : x),
  impute: (step, row) => row.map((x, i) => x === null || x !== x ? step.with[i] : x)
    .concat((step.indicated ?? []).map((i) => row[i] === null || row[i] !== row[i] ? 1 : 0)),
  onehot: (step, ...rows) => codes(step, rows.flat()).flatMap((place, i) => step.categories[i]
    .map((_, at) => at === place ? 1 : 0).filter((_, at) => at !== (step.dropped?.[i] ?? -1))),
  ordinal: (step, ...rows) => codes(step, rows.flat()).map((place, i) => place < 0 ? Number(step.unknown)
    : step.categories[i][place] === null && step.missing[i] !== null ? Number(step.missing[i]) : place),
  bins: (step, row) => finite(row).map((x, i) => step.edges[i].filter((edge) => edge <= x).length),
  binarize: (step, row) => finite(row).map((x) => x > step.threshold ? 1 : 0),
  polynomial: (step, row) => step.terms.map((term) => term.reduceRight((product, i) => finite(row)[i] * product, 1)),
  project: (step, row) => step.components.map((one, i) => (dot(one, finite(row)) - by(step.subtract, i, 0)) / by(step.divide, i, 1)),
  linear: (step, row) => step.coef.map((one, i) => dot(one, finite(row)) + step.intercept[i]),
  logistic: (step, row) => {
    const scores = operations.linear(step, row);
    return classified(step, scores, scores.length === 1 ? Number(scores[0] > 0) : best(scores));
  },
  trees: (step, row) => {
    const total = add(step.trees.map((tree) => leaf(tree, small(row, tree.nan_left)))).map((one) => one / step.trees.length);
    return step.classes ? { value: step.classes[best(total)], probabilities: total } : total;
  },
  boosted: (step, row) => {
    const rounds = step.rounds.map((trees) => trees.flatMap((tree) => leaf(tree, small(row))).map((one) => step.rate * one));
    const sums = add([step.start, ...rounds]);
    return step.classes ? classified(step, sums, sums.length === 1 ? Number(sums[0] >= 0) : best(sums)) : sums;
  },
};

export function score(plan, record) {
  if (plan.format !== "scoreline-plan/1") fail(`the format ${plan.format} is not known`);
  const values = [record];
  for (const step of plan.steps) {
    const inputs = [step.in ?? 0].flat().map((index) => values[index]);
    const of = functions[step.op] ?? Math[step.op];
    values.push(operations[step.op]?.(step, ...inputs)
      ?? (of ? inputs[0].map((x) => of(x)) : fail(`the operation ${step.op} is not known`)));
  }
  const answer = values.at(-1);
  return Array.isArray(answer) ? { value: answer.length === 1 ? answer[0] : answer } : answer;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
  for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
    let answer;
    try { answer = score(plan, JSON.parse(line)); } catch (error) { answer = { error: error.message }; }
    console.log(JSON.stringify(answer));
  }
}
