// The interop cases with grpc-js. Every case runs RUNS times in a row on one channel; stdout gets one JSON object,
// {case: [null or what went wrong, for each run]}.
//
//   NODE_PATH=.../node_modules node interop.cjs ADDRESS RUNS [CA CERTIFICATE KEY]
//
// Source: grpc/doc/interop-test-descriptions.md.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { CompressionFilter } = require('@grpc/grpc-js/build/src/compression-filter');

const [address, runs, ca, certificate, key] = process.argv.slice(2);
const DEADLINE_MS = 60000;
const NO_COMPRESS = 2; // grpc's write flag of that name
const GZIP = { 'grpc.default_compression_algorithm': 2 };

// grpc-js does not tell whether a message came compressed; its filter sees the flag, and here so do we.
const compressedFlags = [];
const receiveMessage = CompressionFilter.prototype.receiveMessage;
CompressionFilter.prototype.receiveMessage = async function (message) {
  compressedFlags.push((await message)[0] === 1);
  return receiveMessage.call(this, message);
};

const definition = loader.loadSync(path.join(__dirname, 'protos', 'interop.proto'), { keepCase: true });
const testing = grpc.loadPackageDefinition(definition).grpc.testing;
const read = (file) => fs.readFileSync(file);
const credentials = ca
  ? grpc.credentials.createSsl(read(ca), read(key), read(certificate))
  : grpc.credentials.createInsecure();
const channels = { 'grpc.use_local_subchannel_pool': 1 };
const client = new testing.TestService(address, credentials, channels);
// A new channel for each call: grpc-js stops compressing once it has read "identity, deflate, gzip" from the server,
// for it compares " gzip", with its space, to "gzip".
const packing = () => new testing.TestService(address, credentials, { ...channels, ...GZIP });
const unimplemented = new testing.UnimplementedService(address, credentials, channels);

const INPUT_SIZES = [27182, 8, 1828, 45904];
const OUTPUT_SIZES = [31415, 9, 2653, 58979];
const SPECIAL_MESSAGE = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const zeros = (size) => ({ body: Buffer.alloc(size) });
const large = (fields) => ({ response_size: 314159, payload: zeros(271828), ...fields });
const soon = () => ({ deadline: Date.now() + DEADLINE_MS });

function checkBody(response, size) {
  assert.ok(response.payload.body.equals(Buffer.alloc(size)), `expected ${size} zeros`);
}

// What a unary or client-streaming call came to: {error, response, initial, trailing, call}.
function outcome(start) {
  return new Promise((resolve) => {
    const seen = {};
    const call = start((error, response) => { seen.error = error; seen.response = response; });
    seen.call = call;
    call.on('metadata', (metadata) => { seen.initial = metadata; });
    call.on('status', (status) => { seen.trailing = status.metadata; setImmediate(resolve, seen); });
  });
}

// What a stream came to: {error, responses, initial, trailing}; onResponse runs at each response.
function collected(call, onResponse = () => {}) {
  return new Promise((resolve) => {
    const seen = { responses: [] };
    call.on('metadata', (metadata) => { seen.initial = metadata; });
    call.on('data', (response) => { seen.responses.push(response); onResponse(response, seen.responses.length); });
    call.on('error', (error) => { seen.error = error; });
    call.on('status', (status) => { seen.trailing = status.metadata; setImmediate(resolve, seen); });
  });
}

const unary = (request, metadata = new grpc.Metadata(), from = client) =>
  outcome((done) => from.UnaryCall(request, metadata, soon(), done));

function succeeded(seen) {
  assert.equal(seen.error ?? null, null, String(seen.error));
  return seen;
}

function failed(seen, code) {
  assert.ok(seen.error, `expected status ${code}, got a success`);
  assert.equal(seen.error.code, code, seen.error.message);
  return seen;
}

// One message of a client stream, sent without compression: Node's own streams refuse grpc-js's write flags.
function writePlain(call, message) {
  return new Promise((resolve) => call.call.sendMessageWithContext({ callback: resolve, flags: NO_COMPRESS }, message));
}

const cases = {
  async empty_unary() {
    const seen = succeeded(await outcome((done) => client.EmptyCall({}, soon(), done)));
    assert.notEqual(seen.response, undefined);
  },
  async large_unary() {
    checkBody(succeeded(await unary(large())).response, 314159);
  },
  async client_compressed_unary() {
    const expecting = (value) => large({ expect_compressed: { value } });
    failed(await unary(expecting(true)), grpc.status.INVALID_ARGUMENT);
    checkBody(succeeded(await unary(expecting(true), new grpc.Metadata(), packing())).response, 314159);
    checkBody(succeeded(await unary(expecting(false))).response, 314159);
  },
  async server_compressed_unary() {
    for (const value of [true, false]) {
      compressedFlags.length = 0;
      checkBody(succeeded(await unary(large({ response_compressed: { value } }))).response, 314159);
      assert.deepEqual(compressedFlags, [value]);
    }
  },
  async client_streaming() {
    const seen = succeeded(await outcome((done) => {
      const call = client.StreamingInputCall(soon(), done);
      for (const size of INPUT_SIZES) call.write({ payload: zeros(size) });
      call.end();
      return call;
    }));
    assert.equal(seen.response.aggregated_payload_size, 74922);
  },
  async client_compressed_streaming() {
    const expecting = (value, size) => ({ payload: zeros(size), expect_compressed: { value } });
    failed(await outcome((done) => {
      const call = client.StreamingInputCall(soon(), done);
      call.end(expecting(true, 27182));
      return call;
    }), grpc.status.INVALID_ARGUMENT);
    const seen = succeeded(await outcome((done) => {
      const call = packing().StreamingInputCall(soon(), done);
      call.write(expecting(true, 27182), () => writePlain(call, expecting(false, 45904)).then(() => call.end()));
      return call;
    }));
    assert.equal(seen.response.aggregated_payload_size, 73086);
  },
  async server_streaming() {
    const response_parameters = OUTPUT_SIZES.map((size) => ({ size }));
    const seen = succeeded(await collected(client.StreamingOutputCall({ response_parameters }, soon())));
    assert.equal(seen.responses.length, 4);
    seen.responses.forEach((response, index) => checkBody(response, OUTPUT_SIZES[index]));
  },
  async server_compressed_streaming() {
    compressedFlags.length = 0;
    const response_parameters = [
      { size: 31415, compressed: { value: true } },
      { size: 92653, compressed: { value: false } },
    ];
    const seen = succeeded(await collected(client.StreamingOutputCall({ response_parameters }, soon())));
    assert.equal(seen.responses.length, 2);
    checkBody(seen.responses[0], 31415);
    checkBody(seen.responses[1], 92653);
    assert.deepEqual(compressedFlags, [true, false]);
  },
  async ping_pong() {
    const call = client.FullDuplexCall(soon());
    const ping = (index) => call.write({
      response_parameters: [{ size: OUTPUT_SIZES[index] }], payload: zeros(INPUT_SIZES[index]),
    });
    ping(0);
    const seen = succeeded(await collected(call, (response, count) => (count < 4 ? ping(count) : call.end())));
    assert.equal(seen.responses.length, 4);
    seen.responses.forEach((response, index) => checkBody(response, OUTPUT_SIZES[index]));
  },
  async empty_stream() {
    const call = client.FullDuplexCall(soon());
    call.end();
    assert.equal(succeeded(await collected(call)).responses.length, 0);
  },
  async custom_metadata() {
    const metadata = new grpc.Metadata();
    metadata.set('x-grpc-test-echo-initial', 'test_initial_metadata_value');
    metadata.set('x-grpc-test-echo-trailing-bin', Buffer.from('ababab', 'hex'));
    const call = client.FullDuplexCall(metadata, soon());
    call.end({ response_parameters: [{ size: 314159 }], payload: zeros(271828) });
    for (const seen of await Promise.all([unary(large(), metadata), collected(call)])) {
      checkBody(succeeded(seen).response ?? seen.responses[0], 314159);
      assert.deepEqual(seen.initial.get('x-grpc-test-echo-initial'), ['test_initial_metadata_value']);
      assert.deepEqual(seen.trailing.get('x-grpc-test-echo-trailing-bin'), [Buffer.from('ababab', 'hex')]);
    }
  },
  async status_code_and_message() {
    const response_status = { code: 2, message: 'test status message' };
    const call = client.FullDuplexCall(soon());
    call.end({ response_status });
    for (const seen of await Promise.all([unary({ response_status }), collected(call)])) {
      assert.equal(failed(seen, grpc.status.UNKNOWN).error.details, 'test status message');
    }
  },
  async special_status_message() {
    const seen = await unary({ response_status: { code: 2, message: SPECIAL_MESSAGE } });
    assert.equal(failed(seen, grpc.status.UNKNOWN).error.details, SPECIAL_MESSAGE);
  },
  async unimplemented_method() {
    failed(await outcome((done) => client.UnimplementedCall({}, soon(), done)), grpc.status.UNIMPLEMENTED);
  },
  async unimplemented_service() {
    failed(await outcome((done) => unimplemented.UnimplementedCall({}, soon(), done)), grpc.status.UNIMPLEMENTED);
  },
  async cancel_after_begin() {
    const seen = await outcome((done) => {
      const call = client.StreamingInputCall(soon(), done);
      call.cancel();
      return call;
    });
    failed(seen, grpc.status.CANCELLED);
  },
  async cancel_after_first_response() {
    const call = client.FullDuplexCall(soon());
    call.write({ response_parameters: [{ size: 31415 }], payload: zeros(27182) });
    const seen = await collected(call, () => call.cancel());
    failed(seen, grpc.status.CANCELLED);
    assert.equal(seen.responses.length, 1);
  },
  async timeout_on_sleeping_server() {
    const call = client.FullDuplexCall({ deadline: Date.now() + 1 });
    call.write({ payload: zeros(27182) });
    failed(await collected(call), grpc.status.DEADLINE_EXCEEDED);
  },
};

async function main() {
  const results = {};
  for (const [name, run] of Object.entries(cases)) {
    results[name] = [];
    for (let count = 0; count < Number(runs); count += 1) {
      results[name].push(await run().then(() => null, (error) => String(error.message).slice(0, 500)));
    }
  }
  process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));
}

main();
