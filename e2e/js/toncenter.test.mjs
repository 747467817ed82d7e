// @ton/ton's TonClient against our HTTP gateway. The Go test that runs this
// names everything in the environment and checks afterwards, by proof, what
// arrived.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { mnemonicToPrivateKey } from '@ton/crypto';
import tonCore from '@ton/core';
import ton from '@ton/ton';

const { Address, internal } = tonCore;
const { TonClient, WalletContractV5R1 } = ton;
const env = (name) => {
  const v = process.env[name];
  assert.ok(v, `${name} is not set`);
  return v;
};

test('TonClient over the gateway', { timeout: 60_000 }, async () => {
  const words = fs.readFileSync(env('COCOON_KEY_FILE'), 'utf8').split('\n')
    .filter((l) => l.trim() && !l.startsWith('#')).join(' ').trim().split(/\s+/);
  const key = await mnemonicToPrivateKey(words);
  const wallet = WalletContractV5R1.create({
    publicKey: key.publicKey,
    walletId: { networkGlobalId: Number(env('COCOON_GLOBAL_ID')), context: { workchain: 0, walletVersion: 'v5r1', subwalletNumber: 0 } },
  });
  const client = new TonClient({ endpoint: env('COCOON_TONCENTER') });
  const info = await client.getMasterchainInfo();
  assert.equal(info.workchain, -1);
  assert.ok(info.latestSeqno > 0);

  const state = await client.getContractState(wallet.address);
  assert.equal(state.state, 'active');
  assert.equal(state.balance, BigInt(env('COCOON_BALANCE')));
  assert.equal(await client.getBalance(wallet.address), state.balance);
  assert.ok(await client.isContractDeployed(wallet.address));
  const method = await client.runMethod(wallet.address, 'get_public_key');
  assert.equal(method.stack.readBigNumber().toString(16), BigInt('0x' + key.publicKey.toString('hex')).toString(16));

  const opened = client.open(wallet);
  const seqno = await opened.getSeqno();
  assert.equal(seqno, Number(env('COCOON_SEQNO')));
  const to = Address.parse(env('COCOON_TO'));
  await opened.sendTransfer({
    seqno, secretKey: key.secretKey, sendMode: 3,
    messages: [internal({ to, value: '1.5', bounce: false, body: 'through the gateway' })],
  });
  while (await opened.getSeqno() !== seqno + 1) await new Promise((resolve) => setTimeout(resolve, 50));

  const list = await client.getTransactions(wallet.address, { limit: 10 });
  assert.ok(list.length >= 3, `${list.length} transactions`);
  const out = [...list[0].outMessages.values()];
  assert.equal(out.length, 1);
  assert.equal(out[0].info.dest.toRawString(), to.toRawString());
  assert.equal(out[0].info.value.coins, 1_500_000_000n);
  const shards = await client.getWorkchainShards(info.latestSeqno);
  assert.ok(shards.some((s) => s.workchain === 0), 'the basechain is missing');
});
