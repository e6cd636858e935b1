// usage: node client.mjs DIRECTORY
//
// Calls what standard input says with the AWS SDK that is installed in DIRECTORY; tests/e2e/drivers.py has the form of
// the lines. Where the server is and the keys are in the environment, as for every program that uses the SDK.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "package.json"));
const sdk = require("@aws-sdk/client-lambda-microvms");
const client = new sdk.LambdaMicrovmsClient({});

async function answer({ operation, input, page_size: pageSize, items }) {
  try {
    if (pageSize === undefined) {
      return { output: await client.send(new sdk[`${operation}Command`](input)) };
    }
    const pages = [];
    for await (const page of sdk[`paginate${operation}`]({ client, pageSize }, input)) {
      pages.push(page[items]);
    }
    return { pages };
  } catch (error) {
    if (!(error instanceof sdk.LambdaMicrovmsServiceException)) throw error;
    const { name: code, message, $metadata: { httpStatusCode: status } } = error;
    return { error: { type: error.constructor.name, code, status, message } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
