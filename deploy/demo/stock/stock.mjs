// Reserves stock for every order, exactly once as far as anybody can see.
// Speaks to NATS through the natsway beside it, with nothing but fetch.

const natsway = process.env.NATSWAY_URL ?? 'http://127.0.0.1:4280';
const start = { coffee: 20, tea: 12, mug: 3 };
const consumer = {
  durable_name: 'stock',
  filter_subject: 'order.created',
  ack_policy: 'explicit',
  ack_wait: 5_000_000_000, // a crashed stock service is forgotten after five seconds
  deliver_policy: 'all',
};
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// One call. A problem says itself whether trying again is safe; null where `missing` says it may be absent.
async function call(method, path, { body, headers, missing = [] } = {}) {
  for (;;) {
    let problem;
    try {
      const answer = await fetch(natsway + path, { method, body, headers, signal: AbortSignal.timeout(15_000) });
      if (answer.ok) return answer;
      problem = await answer.json();
    } catch (error) {
      problem = { code: String(error.cause?.code ?? error.name), retryable: true };
    }
    if (missing.includes(problem.code)) return null;
    if (!problem.retryable) throw new Error(`${method} ${path}: ${problem.code}: ${problem.detail}`);
    console.log(`stock: ${problem.code}, trying again`);
    await pause(300);
  }
}

const json = (value, headers = {}) => ({
  body: JSON.stringify(value),
  headers: { 'Content-Type': 'application/json', ...headers },
});

// What is left, and what was decided already, stands in the stream: nothing else needs to be stored.
async function remember() {
  const left = { ...start };
  const decided = new Set();
  const answer = await call('GET', '/v1/streams/ORDERS/subscribe?subject=stock.*&from=all&until=now', {
    headers: { Accept: 'application/x-ndjson' },
  });
  for (const line of (await answer.text()).split('\n').filter((line) => line.trim())) {
    const { notice, subject, data } = JSON.parse(line);
    if (notice) continue;
    decided.add(data.id);
    if (subject === 'stock.reserved') left[data.sku] -= data.quantity;
  }
  return { left, decided };
}

async function decide({ left, decided }, order) {
  if (decided.has(order.id)) return; // delivered again after a crash between the publish and the ack
  const enough = (left[order.sku] ?? 0) >= order.quantity;
  const outcome = { id: order.id, sku: order.sku, quantity: order.quantity };
  // Stored once per order, whoever repeats it.
  await call(
    'POST',
    `/v1/publish/stock.${enough ? 'reserved' : 'sold-out'}?confirm=stream`,
    json(outcome, { 'Idempotency-Key': `stock-${order.id}` }),
  );
  decided.add(order.id);
  if (enough) left[order.sku] -= order.quantity;
  console.log(`stock: order ${order.id}: ${order.quantity} ${order.sku} ${enough ? 'reserved' : 'sold out'}`);
}

while (!(await call('PUT', '/v1/streams/ORDERS/consumers/stock', { ...json(consumer), missing: ['stream-not-found'] }))) {
  await pause(300); // the order service makes the stream
}
const memory = await remember();
console.log('stock: ready with', JSON.stringify(memory.left));
for (;;) {
  const answer = await call('POST', '/v1/streams/ORDERS/consumers/stock/fetch?max=10&wait=5s');
  for (const message of (await answer.json()).messages) {
    await decide(memory, message.data);
    // Only now: whatever was not acked is delivered again, to whoever is there then.
    await call('POST', `/v1/acks/${message.ack}`, { missing: ['ack-token-expired'] });
  }
}
