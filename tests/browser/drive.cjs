// Opens a page in headless Chromium and prints every report of it as one JSON line, until the page
// reports `done` or the time is up. Usage: drive.cjs CHROMIUM PAGE_URL PROFILE_FOLDER
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const LIMIT_MS = 120_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function main([executablePath, url, profile]) {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: FLAGS,
    timeout: LIMIT_MS,
  });
  const print = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);
  try {
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the page was not done in time")), LIMIT_MS);
      const report = (_source, value) => {
        print(value);
        if (value.done) {
          clearTimeout(timer);
          resolve();
        }
      };
      context
        .exposeBinding("report", report)
        .then(() => context.newPage())
        .then((page) => {
          page.on("pageerror", reject);
          page.on("console", (message) => process.stderr.write(`page: ${message.text()}\n`));
          return page.goto(url);
        })
        .catch(reject);
    });
  } finally {
    await context.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
