// flagd's own core judges files: `node flagd.mjs before|after FILE…`.
import { readFileSync } from 'node:fs';
import { FlagdCore } from '@openfeature/flagd-core';

const [when, ...files] = process.argv.slice(2);
const silent = { error() {}, warn() {}, info() {}, debug() {} };

function* contexts() {
  for (const tier of ['free', 'trial', 'pro', 'enterprise']) {
    for (const tenant of ['acme', 'initech', '']) {
      for (const region of ['eu', 'us']) {
        for (let n = 0; n < 50; n += 1) yield { targetingKey: `user-${n}`, tier, tenant, region };
      }
    }
  }
  yield {};
  yield { targetingKey: '' };
}

for (const file of files) {
  const core = new FlagdCore(undefined, silent);
  core.setConfigurations(readFileSync(file, 'utf8'));
  const given = (flag) => {
    const counts = {};
    for (const context of contexts()) {
      let value;
      // A flag that is disabled throws, and the SDK gives the caller's own default.
      try { value = core.resolveStringEvaluation(flag, 'mine', context, silent).value; } catch { value = 'mine'; }
      counts[value] = (counts[value] ?? 0) + 1;
    }
    return counts;
  };
  for (const flag of ['prompt', 'quiet']) {
    const counts = given(flag);
    const all = Object.keys(counts).join();
    const wrong = when === 'after' ? all !== 'text-17' : flag === 'prompt' ? !(counts['text-17'] && counts['text-18']) : all === 'text-17';
    console.log(`flagd-core ${file.split('/').pop()} ${flag}: ${JSON.stringify(counts)}`);
    if (wrong) { console.error(`wrong ${when} the rollback`); process.exitCode = 1; }
  }
  const other = given('last');
  if (!(other.A && other.B)) { console.error(`an unrelated flag changed: ${JSON.stringify(other)}`); process.exitCode = 1; }
}
