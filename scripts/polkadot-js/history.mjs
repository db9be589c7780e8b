// Reads every block from genesis on and prints who called what, as JSON: per signer (hex) the
// calls and how often, calls inside batches included, and under `unsigned` what block producers put in.
//
//   OPENLEDGER_WS=ws://127.0.0.1:9944 node history.mjs

import { u8aToHex } from '@polkadot/util';
import { decodeAddress } from '@polkadot/util-crypto';
import { connect } from './chain.mjs';

// A call, and the calls that it carries in its arguments.
function* unfolded(call) {
  yield `${call.section}.${call.method}`;
  for (const argument of call.args) {
    const inner = argument?.section ? [argument] : Array.isArray(argument) ? [...argument] : [];
    for (const each of inner) if (each?.section && each?.method) yield* unfolded(each);
  }
}

const api = await connect();
try {
  const head = (await api.rpc.chain.getHeader()).number.toNumber();
  const signers = {};
  for (let number = 1; number <= head; number += 1) {
    const { block } = await api.rpc.chain.getBlock(await api.rpc.chain.getBlockHash(number));
    for (const extrinsic of block.extrinsics) {
      const signer = extrinsic.isSigned
        ? u8aToHex(decodeAddress(extrinsic.signer.toString()))
        : 'unsigned';
      const calls = (signers[signer] ??= {});
      for (const call of unfolded(extrinsic.method)) calls[call] = (calls[call] ?? 0) + 1;
    }
  }
  console.log(JSON.stringify({ blocks: head, signers }));
} finally {
  await api.disconnect();
}
