// Evaluates the flag $FLAG at $REARGUARD_URL with the token $GATEWAY by OpenFeature's SDK, as a gateway does:
// `node openfeature.mjs VARIANT REASON`. Fails when anything is not as the OpenFeature specification has it.

import assert from 'node:assert/strict';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';

const [variant, reason] = process.argv.slice(2);
const { REARGUARD_URL: baseUrl, GATEWAY: token, FLAG: flag } = process.env;
const provider = (token) => new OFREPProvider({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const context = { targetingKey: 'user-123', tenant: 'acme' };

await OpenFeature.setProviderAndWait(provider(token));
const client = OpenFeature.getClient();

const given = await client.getStringDetails(flag, 'fallback', context);
assert.deepEqual([given.value, given.variant, given.reason, given.errorCode], [variant, variant, reason, undefined]);
assert.equal(typeof given.flagMetadata['rearguard.version'], 'number');
console.log(`${flag} = ${given.value}, reason ${given.reason}`);

// Variants are strings; who asks for a boolean is told so and gets the default.
const mistaken = await client.getBooleanDetails(flag, true, context);
assert.deepEqual([mistaken.value, mistaken.reason, mistaken.errorCode], [true, 'ERROR', 'TYPE_MISMATCH']);

const unknown = await client.getStringDetails('no.such.flag', 'fallback', context);
assert.deepEqual([unknown.value, unknown.reason, unknown.errorCode], ['fallback', 'ERROR', 'FLAG_NOT_FOUND']);

// Without a targeting key nothing fails: this flag's share is no split.
const nobody = await client.getStringDetails(flag, 'fallback', {});
assert.deepEqual([nobody.value, nobody.errorCode], [variant, undefined]);

await OpenFeature.setProviderAndWait(provider('rg_wrong'));
const stranger = await OpenFeature.getClient().getStringDetails(flag, 'fallback', context);
assert.deepEqual([stranger.value, stranger.reason], ['fallback', 'ERROR']);
await OpenFeature.close();
