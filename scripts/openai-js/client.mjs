// Asks a gateway through the unmodified OpenAI client: the models, a question plainly, and the same
// question streamed. Prints what came back as JSON.
//
//   node client.mjs BASE_URL MODEL QUESTION

import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model, question] = process.argv.slice(2);
// The client wants a key; a gateway that listens on this machine alone does not.
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0, timeout: 60_000 });
const request = {
  model,
  messages: [{ role: 'user', content: question }],
  max_tokens: 64,
  temperature: 0,
};

const models = [];
for await (const each of client.models.list()) models.push(each.id);
assert.ok(models.includes(model), `${model} is not among ${models}`);
assert.equal((await client.models.retrieve(model)).id, model);

const whole = await client.chat.completions.create(request);
assert.equal(whole.object, 'chat.completion');
assert.equal(whole.choices.length, 1);
assert.equal(whole.choices[0].message.role, 'assistant');
const plain = {
  text: whole.choices[0].message.content,
  finish_reason: whole.choices[0].finish_reason,
  usage: whole.usage,
  openledger: whole.openledger,
};

const streamed = { text: '', pieces: 0, finish_reason: null, usage: null, openledger: null };
const stream = await client.chat.completions.create({
  ...request,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const event of stream) {
  assert.equal(event.object, 'chat.completion.chunk');
  const piece = event.choices[0]?.delta?.content;
  if (piece) {
    streamed.text += piece;
    streamed.pieces += 1;
  }
  streamed.finish_reason ??= event.choices[0]?.finish_reason ?? null;
  streamed.usage ??= event.usage ?? null;
  streamed.openledger ??= event.openledger ?? null;
}

for (const answer of [plain, streamed]) {
  assert.ok(answer.text.length > 0, 'no text');
  assert.equal(answer.finish_reason, 'stop');
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.ok(prompt_tokens > 0 && completion_tokens > 0, 'no usage');
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
}
assert.equal(streamed.text, plain.text);
assert.deepEqual(streamed.usage, plain.usage);
assert.ok(streamed.pieces > 1, 'the stream came in one piece');

await assert.rejects(client.chat.completions.create({ ...request, model: 'no-such-model' }), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError, `not a NotFoundError: ${error}`);
  return true;
});

console.log(JSON.stringify({ models, plain, streamed }));
