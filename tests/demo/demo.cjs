// Clicks through the demo in headless Chromium, stops the stock service, orders, and starts it again.
const { spawn } = require("node:child_process");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const LIMIT_MS = 60_000;

class Demo {
  constructor() {
    const tool = path.join(__dirname, "../../tools/demo");
    this.process = spawn(tool, ["--free-ports"], { stdio: ["pipe", "pipe", "inherit"] });
    this.lines = [];
    this.waiting = new Set();
    readline.createInterface({ input: this.process.stdout }).on("line", (line) => {
      console.log(line);
      this.lines.push(line);
      for (const look of this.waiting) look();
    });
    this.ended = new Promise((resolve) => this.process.once("close", resolve));
  }

  // The next line that matches, which no earlier call has seen.
  line(pattern) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no line ${pattern} in time`)), LIMIT_MS);
      const look = () => {
        const at = this.lines.findIndex((line) => pattern.test(line));
        if (at < 0) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve(this.lines.splice(0, at + 1).at(-1));
      };
      this.waiting.add(look);
      look();
    });
  }

  toggleStock() {
    this.process.stdin.write("s\n");
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
  }
}

class Page {
  constructor(page) {
    this.page = page;
  }

  async order(sku, quantity) {
    await this.page.selectOption("select[name=sku]", sku);
    await this.page.fill("input[name=quantity]", String(quantity));
    const answer = this.page.waitForResponse((r) => r.url().endsWith("/orders"));
    await this.page.click("button");
    return (await answer).json();
  }

  // Waits until the page, which learns everything over server-sent events, shows this order so.
  async shows(id, state) {
    await this.page.waitForSelector(`tr[data-order="${id}"] td[data-state="${state}"]`, { timeout: LIMIT_MS });
  }

  async rows() {
    return this.page.$$eval("tbody tr", (rows) => rows.map((row) => row.dataset.order));
  }

  async picture(name) {
    if (process.env.SCREENSHOTS) await this.page.screenshot({ path: path.join(process.env.SCREENSHOTS, `demo-${name}.png`) });
  }
}

function same(actual, expected, what) {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${what}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
  }
}

async function story(demo, page) {
  await page.page.waitForSelector("#state[data-live=yes]", { timeout: LIMIT_MS });
  const first = await page.order("coffee", 2);
  same(first.price, 9, "the price asked by request-reply");
  await page.shows(first.id, "reserved");
  const second = await page.order("mug", 4);
  await page.shows(second.id, "sold-out");

  const unknown = await page.order("unicorn", 1);
  same([unknown.code, unknown.status], ["service-error", 404], "what the pricing service says of a unicorn");
  await page.page.waitForSelector("#said:not(:empty)");
  await page.picture("orders");

  demo.toggleStock();
  await demo.line(/stock service is stopped/);
  const away = [await page.order("tea", 3), await page.order("mug", 1), await page.order("tea", 10)];
  for (const order of away) await page.shows(order.id, "waiting");
  await page.picture("stopped");

  demo.toggleStock();
  await demo.line(/stock service is started/);
  const [tea, mug, too_much] = away;
  await page.shows(tea.id, "reserved");
  await page.shows(mug.id, "reserved");
  await page.shows(too_much.id, "sold-out");
  await page.picture("restarted");

  const all = [first, second, ...away].map((order) => order.id).reverse();
  same(await page.rows(), all, "every order once, the last first");
  await page.page.reload();
  await page.shows(first.id, "reserved");
  await page.shows(too_much.id, "sold-out");
  same(await page.rows(), all, "the same after a reload, from the stream");
}

async function main() {
  const profile = mkdtempSync(path.join(tmpdir(), "natsway-demo-"));
  const demo = new Demo();
  let browser;
  try {
    const url = (await demo.line(/open http/)).split("open ")[1];
    browser = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM_BIN,
      headless: true,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
      viewport: { width: 820, height: 520 },
      timeout: LIMIT_MS,
    });
    const page = await browser.newPage();
    page.setDefaultTimeout(LIMIT_MS);
    await page.goto(url);
    await story(demo, new Page(page));
    console.log("the demo: 1 passed, 0 failed");
  } finally {
    await browser?.close();
    await demo.stop();
    rmSync(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error.stack);
  process.exitCode = 1;
});
