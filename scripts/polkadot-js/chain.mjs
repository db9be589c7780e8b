// What every script here needs of a chain: a connection, and calls with the events they cause.

import assert from 'node:assert/strict';
import { ApiPromise, WsProvider } from '@polkadot/api';
import { cryptoWaitReady } from '@polkadot/util-crypto';

// Connects to the node that OPENLEDGER_WS names.
export async function connect() {
  await cryptoWaitReady();
  const url = process.env.OPENLEDGER_WS ?? 'ws://127.0.0.1:9944';
  return ApiPromise.create({ provider: new WsProvider(url), noInitWarn: true });
}

// Signs and sends, and returns the events of the block that included the call.
export function send(api, call, signer) {
  return new Promise((resolve, reject) => {
    let unsubscribe;
    call
      .signAndSend(signer, { nonce: -1 }, ({ status, events, dispatchError }) => {
        if (!status.isInBlock) return;
        unsubscribe?.();
        if (dispatchError?.isModule) {
          const { section, name, docs } = api.registry.findMetaError(dispatchError.asModule);
          reject(new Error(`${section}.${name}: ${docs.join(' ')}`));
        } else if (dispatchError) {
          reject(new Error(dispatchError.toString()));
        } else {
          resolve(events.map(({ event }) => event));
        }
      })
      .then((stop) => (unsubscribe = stop), reject);
  });
}

// The one event of that name; fails when there is none.
export function find(events, section, method) {
  const event = events.find((e) => e.section === section && e.method === method);
  assert.ok(event, `no ${section}.${method} among ${events.map((e) => `${e.section}.${e.method}`)}`);
  return event;
}
