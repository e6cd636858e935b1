// usage: node core.mjs DIRECTORY MODEL PAGINATORS
//
// Like client.mjs, for lambda-core. The npm registry has no client of it that was generated beforehand, so this one is
// made when it starts, by the AWS SDK for JavaScript v2, from the model as botocore has it: JSON, gzipped or not.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { gunzipSync } from "node:zlib";
import { join } from "node:path";
import { readFileSync } from "node:fs";

const [directory, model, paginators] = process.argv.slice(2);
const AWS = createRequire(join(directory, "package.json"))("aws-sdk/global");
const text = (file) => (file.endsWith(".gz") ? gunzipSync(readFileSync(file)) : readFileSync(file));
const read = (file) => JSON.parse(text(file));
const client = new AWS.Service({
  apiConfig: { ...read(model), paginators: read(paginators).pagination },
  endpoint: process.env.AWS_ENDPOINT_URL,
  region: process.env.AWS_REGION,
  credentials: new AWS.EnvironmentCredentials("AWS"),
  maxRetries: 0,
});

function eachPage(request, items) {
  return new Promise((resolve, reject) => {
    const pages = [];
    request.eachPage((error, page) => {
      if (error) reject(error);
      else if (page === null) resolve(pages);
      else pages.push(page[items]);
      return true;
    });
  });
}

async function answer({ operation, input, page_size: pageSize, items }) {
  const method = operation[0].toLowerCase() + operation.slice(1);
  try {
    if (pageSize === undefined) {
      return { output: await client[method](input).promise() };
    }
    return { pages: await eachPage(client[method]({ ...input, MaxItems: pageSize }), items) };
  } catch (error) {
    if (error.statusCode === undefined) throw error;
    const { name: type, code, statusCode: status, message } = error;
    return { error: { type, code, status, message } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
