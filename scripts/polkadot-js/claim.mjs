// Claims what an account has earned, and decodes the events: the account, the amount, and for each
// part of it who paid and why. Prints them as JSON: accounts are hex, whatever prefix addresses have
// on this chain, and amounts planck as decimal strings.
//
//   OPENLEDGER_WS=ws://127.0.0.1:9944 node claim.mjs KEY_FILE

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Keyring } from '@polkadot/api';
import { u8aToHex } from '@polkadot/util';
import { connect, find, send } from './chain.mjs';

const api = await connect();
try {
  const secret = readFileSync(process.argv[2], 'utf8').split('\n')[0].trim();
  const keyring = new Keyring({ type: 'sr25519', ss58Format: api.registry.chainSS58 });
  const claimer = keyring.addFromUri(secret);
  const earnings = await api.call.payoutsApi.earnings(claimer.address);
  assert.ok(earnings.length > 0, `${claimer.address} has earned nothing`);
  const owed = earnings
    .filter((earning) => earning.vested.isTrue)
    .reduce((sum, earning) => sum + earning.amount.toBigInt(), 0n);
  const free = async () =>
    (await api.query.system.account(claimer.address)).data.free.toBigInt();
  const before = await free();

  const events = await send(api, api.tx.payouts.claim(), claimer);
  const claimed = find(events, 'payouts', 'Claimed').data;
  assert.equal(claimed.account.toString(), claimer.address);
  assert.equal(claimed.amount.toBigInt(), owed);
  const fee = find(events, 'transactionPayment', 'TransactionFeePaid').data;
  assert.equal(await free(), before + owed - fee.actualFee.toBigInt());

  const paid = events
    .filter(({ section, method }) => section === 'payouts' && method === 'Paid')
    .map(({ data }) => ({
      amount: data.amount.toString(),
      role: data.role.toJSON(),
      revision: data.revision.toNumber(),
      batch: data.batch.toNumber(),
      worker: data.worker.toHex(),
    }));
  const sum = paid.reduce((total, { amount }) => total + BigInt(amount), 0n);
  assert.equal(sum, owed);
  const account = u8aToHex(claimer.publicKey);
  console.log(JSON.stringify({ account, amount: claimed.amount.toString(), paid }));
} finally {
  await api.disconnect();
}
