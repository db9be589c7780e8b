// Drives a development node through @polkadot/api, as the polkadot.js UI does: metadata, a transfer,
// one call of each pallet with its events decoded, and the runtime APIs.
//
//   OPENLEDGER_WS=ws://127.0.0.1:9944 node --test

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Keyring } from '@polkadot/api';
import { u8aToHex } from '@polkadot/util';
import { randomAsU8a } from '@polkadot/util-crypto';
import { connect, find, send as sendBy } from './chain.mjs';

const OPEN = 10n ** 12n;

let api;
let alice;
let stranger;

before(async () => {
  api = await connect();
  const keyring = new Keyring({ type: 'sr25519', ss58Format: api.registry.chainSS58 });
  alice = keyring.addFromUri('//Alice');
  stranger = keyring.addFromSeed(randomAsU8a(32));
});

after(async () => api?.disconnect());

const send = (call, signer) => sendBy(api, call, signer);
const digest = () => u8aToHex(randomAsU8a(32));
const split = {
  worker: 600_000,
  developer: 150_000,
  holders: 0,
  contributors: 200_000,
  protocol: 50_000,
};
let worker;

test('metadata names the chain, its token and every pallet', () => {
  assert.equal(api.registry.chainTokens[0], 'OPEN');
  assert.equal(api.registry.chainDecimals[0], 12);
  for (const pallet of [
    'protocol',
    'datanets',
    'models',
    'workerBonds',
    'workers',
    'settlement',
    'payouts',
  ]) {
    assert.ok(api.tx[pallet], `no calls of ${pallet}`);
    assert.ok(api.events[pallet], `no events of ${pallet}`);
  }
});

test('balances: a transfer arrives', async () => {
  const amount = 5_000n * OPEN;
  const events = await send(api.tx.balances.transferKeepAlive(stranger.address, amount), alice);
  assert.equal(find(events, 'balances', 'Transfer').data[2].toBigInt(), amount);
  assert.equal((await api.query.system.account(stranger.address)).data.free.toBigInt(), amount);
});

test('protocol: parameters are set by the administrator only', async () => {
  const parameters = await api.query.protocol.payouts();
  await assert.rejects(send(api.tx.protocol.setPayouts(parameters), stranger), /BadOrigin/);
  const events = await send(api.tx.sudo.sudo(api.tx.protocol.setPayouts(parameters)), alice);
  assert.ok(events.some((e) => e.section === 'protocol'), 'no event of protocol');
});

test('datanets: a Datanet is created', async () => {
  const call = api.tx.datanets.create(
    'Text',
    31,
    digest(),
    'Open',
    0,
    0,
    OPEN,
    false,
  );
  const created = find(await send(call, alice), 'datanets', 'Created');
  assert.equal(created.data.owner.toString(), alice.address);
});

test('models: a base is registered with its terms', async () => {
  const call = api.tx.models.registerBase(
    'polkadot-js-base',
    digest(),
    31,
    OPEN,
    OPEN,
    split,
  );
  find(await send(call, alice), 'models', 'BaseRegistered');
});

test('workers and bonds: a worker joins and adds to its bond', async () => {
  worker = stranger;
  const service = new Keyring({ type: 'sr25519' }).addFromSeed(randomAsU8a(32));
  const capability = {
    backend: 'CpuF32',
    memoryMib: 1024,
    maxBatch: 8,
    engine: 'test',
    evidence: 'Open',
  };
  const joined = await send(
    api.tx.workers.join(2_000n * OPEN, service.address, 'http://127.0.0.1:1', capability),
    worker,
  );
  find(joined, 'workers', 'Joined');
  find(await send(api.tx.workerBonds.bondMore(OPEN), worker), 'workerBonds', 'Bonded');
});

test('settlement: a channel is opened and its deposit is held', async () => {
  const now = (await api.rpc.chain.getHeader()).number.toNumber();
  const call = api.tx.settlement.openChannel(
    worker.address,
    100n * OPEN,
    2,
    digest(),
    100n * OPEN,
    now + 1_000,
    'Open',
  );
  const opened = find(await send(call, alice), 'settlement', 'ChannelOpened');
  assert.equal(opened.data.consumer.toString(), alice.address);
  assert.equal(opened.data.deposit.toBigInt(), 100n * OPEN);
});

test('payouts: claiming nothing is refused with a reason, and the runtime API answers', async () => {
  await assert.rejects(send(api.tx.payouts.claim(), alice), /payouts\.\w+/);
  const earnings = await api.call.payoutsApi.earnings(alice.address);
  assert.equal(earnings.length, 0);
});
