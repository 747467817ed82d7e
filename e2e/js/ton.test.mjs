// TON's own JavaScript software against the devnet: @ton/crypto reads our key
// file, @ton/ton derives our wallet from it and spends, ton-lite-client talks to
// our liteserver. The Go test that runs this names everything in the environment
// and checks afterwards, by proof, what arrived.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { mnemonicToPrivateKey, mnemonicValidate } from '@ton/crypto';
import tonCore from '@ton/core';
import ton from '@ton/ton';
import lite from 'ton-lite-client';

const { Address, internal } = tonCore;
const { WalletContractV4, WalletContractV5R1 } = ton;
const { LiteClient, LiteSingleEngine } = lite;
const env = (name) => {
  const v = process.env[name];
  assert.ok(v, `${name} is not set`);
  return v;
};

test('a wallet of ours in their hands', { timeout: 60_000 }, async () => {
  const words = fs.readFileSync(env('COCOON_KEY_FILE'), 'utf8').split('\n')
    .filter((l) => l.trim() && !l.startsWith('#')).join(' ').trim().split(/\s+/);
  assert.equal(words.length, 24);
  assert.ok(await mnemonicValidate(words), 'the mnemonic is not valid');
  const key = await mnemonicToPrivateKey(words);
  const wallet = env('COCOON_KIND') === 'v4r2'
    ? WalletContractV4.create({ workchain: 0, publicKey: key.publicKey })
    : WalletContractV5R1.create({
      publicKey: key.publicKey,
      walletId: { networkGlobalId: Number(env('COCOON_GLOBAL_ID')), context: { workchain: 0, walletVersion: 'v5r1', subwalletNumber: 0 } },
    });
  assert.equal(wallet.address.toRawString(), env('COCOON_ADDRESS'));

  const engine = new LiteSingleEngine({ host: `tcp://${env('COCOON_LITESERVER')}`, publicKey: Buffer.from(env('COCOON_LITESERVER_KEY'), 'base64') });
  try {
    if (!engine.isReady()) await new Promise((resolve) => engine.once('ready', resolve));
    const client = new LiteClient({ engine });
    const opened = client.open(wallet);
    assert.equal(await opened.getBalance(), BigInt(env('COCOON_BALANCE')));
    const seqno = await opened.getSeqno();
    assert.equal(seqno, Number(env('COCOON_SEQNO')));
    await opened.sendTransfer({
      seqno, secretKey: key.secretKey, sendMode: 3,
      messages: [internal({ to: Address.parse(env('COCOON_TO')), value: '1.5', bounce: false, body: 'from JavaScript' })],
    });
    for (;;) {
      if (await opened.getSeqno() === seqno + 1) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    engine.close();
  }
});
