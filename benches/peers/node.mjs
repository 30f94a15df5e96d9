// A hub on node:http, as one writes it with care: an event's bytes are made once for all
// subscribers, all that came in one turn of the loop goes out in one write each, and whoever
// falls behind is closed. Prints its address, as pushv does.
import http from "node:http";

const BACKLOG_BYTES_MAX = 4 << 20;
const STREAM_ID = Date.now().toString(16).slice(-8);
const topics = new Map();

function topicNamed(name) {
  let topic = topics.get(name);
  if (!topic) {
    topic = { subscribers: new Set(), published: 0, pending: [] };
    topics.set(name, topic);
  }
  return topic;
}

function subscribe(topic, response) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  response.write("retry: 2000\n\n");
  topic.subscribers.add(response);
  response.on("close", () => topic.subscribers.delete(response));
}

function publish(topic, data) {
  const lines = data.split("\n").map((line) => `data: ${line}\n`).join("");
  topic.published += 1;
  if (topic.pending.length === 0) setImmediate(flush, topic);
  topic.pending.push(Buffer.from(`id: ${STREAM_ID}-${topic.published}\n${lines}\n`));
}

function flush(topic) {
  const frames = topic.pending.length === 1 ? topic.pending[0] : Buffer.concat(topic.pending);
  topic.pending = [];
  for (const response of topic.subscribers) {
    response.write(frames);
    if (response.writableLength > BACKLOG_BYTES_MAX) response.destroy();
  }
}

const options = { noDelay: true, keepAliveTimeout: 75_000 };
const server = http.createServer(options, (request, response) => {
  const topic = topicNamed(request.url.slice("/events/".length));
  if (request.method === "GET") return subscribe(topic, response);
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    publish(topic, Buffer.concat(parts).toString());
    response.writeHead(204).end();
  });
});
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(`listening http://127.0.0.1:${server.address().port}`);
});
