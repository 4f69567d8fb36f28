// The page's behaviour. Everything that comes from outside is set as text, never as markup; the token lives in a variable and nowhere else.
"use strict";

const READY_EVERY_MS = 3000;
const NODES_EVERY_MS = 10000;
const KEPT_EVENTS = 200;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;

const at = (id) => document.getElementById(id);
let session = null; // {token, socket, cursor, pause, timer} while connected

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function showReadiness() {
  try {
    const answer = await fetch("/readyz");
    const { ready, services } = await answer.json();
    at("summary").textContent = ready ? "Everything is running." : "Not everything is running.";
    at("services").replaceChildren(
      ...Object.entries(services).map(([name, state]) => {
        const up = state === "SERVING";
        const item = element("li", "", up ? "up" : "");
        item.append(element("span", "", "dot"), element("span", name), element("span", up ? "up" : "down", "state"));
        return item;
      }),
    );
  } catch {
    at("summary").textContent = "The gateway does not answer.";
  }
}

async function api(path) {
  const answer = await fetch(path, { headers: { authorization: `Bearer ${session.token}` }, cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message || `status ${answer.status}`);
  return body;
}

async function showNodes() {
  const current = session;
  const { nodes } = await api("/api/v1/nodes?page_size=1000");
  if (session !== current) return;
  at("nodes-count").textContent = nodes.length ? `(${nodes.length})` : "";
  at("no-nodes").hidden = nodes.length > 0;
  at("nodes").replaceChildren(
    ...nodes.map((node) => {
      const row = element("tr");
      const seen = node.last_seen ? new Date(node.last_seen).toLocaleTimeString() : "";
      row.append(element("td", node.hostname || node.id), element("td", node.status, node.status));
      row.append(element("td", node.model), element("td", node.ip_address), element("td", seen));
      row.title = node.id;
      return row;
    }),
  );
}

function showEvent(event) {
  at("no-events").hidden = true;
  const item = element("li");
  const details = Object.keys(event.data).length ? JSON.stringify(event.data) : "";
  item.append(element("time", new Date(event.timestamp).toLocaleTimeString()), " ", element("b", event.type), ` ${event.resource || ""} ${details}`);
  at("events").prepend(item);
  while (at("events").childElementCount > KEPT_EVENTS) at("events").lastElementChild.remove();
}

function listen() {
  const current = session;
  const query = current.cursor ? `?after=${encodeURIComponent(current.cursor)}` : "";
  const socket = new WebSocket(`wss://${location.host}/api/v1/events/ws${query}`, ["pi-controller.v1"]);
  current.socket = socket;
  socket.onopen = () => {
    socket.send(JSON.stringify({ token: current.token }));
    current.pause = FIRST_PAUSE_MS;
    at("stream").textContent = "(live)";
  };
  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    current.cursor = event.cursor;
    showEvent(event);
    if (event.type.startsWith("node.")) showNodes().catch(() => {});
  };
  socket.onclose = (end) => {
    if (session !== current) return;
    if (end.code === 4401) return leave("The token is not valid any more.");
    if (end.code === 4403) return void (at("stream").textContent = "(not allowed)");
    if (end.code === 4416) current.cursor = "";
    at("stream").textContent = "(reconnecting…)";
    setTimeout(() => session === current && listen(), current.pause);
    current.pause = Math.min(LONGEST_PAUSE_MS, current.pause * 2);
  };
}

async function enter(submitted) {
  submitted.preventDefault();
  at("problem").textContent = "";
  session = { token: at("token").value.trim(), pause: FIRST_PAUSE_MS, cursor: "" };
  try {
    const who = await api("/api/v1/whoami");
    at("who").textContent = `${who.spiffe_id} · ${who.roles.join(", ")}`;
    await showNodes();
  } catch (error) {
    session = null;
    at("problem").textContent = `That did not work: ${error.message}`;
    return;
  }
  at("token").value = "";
  at("login").hidden = true;
  at("inside").hidden = false;
  session.timer = setInterval(() => showNodes().catch(() => {}), NODES_EVERY_MS);
  listen();
}

function leave(why = "") {
  const ended = session;
  session = null;
  clearInterval(ended.timer);
  ended.socket.close();
  at("inside").hidden = true;
  at("login").hidden = false;
  at("problem").textContent = why;
  at("events").replaceChildren();
  at("nodes").replaceChildren();
  at("no-events").hidden = false;
}

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
for (const place of document.querySelectorAll(".host")) place.textContent = location.host;
at("token-form").addEventListener("submit", enter);
at("leave").addEventListener("click", () => leave());
fetch("/healthz").then((answer) => answer.json()).then(({ version }) => { at("version").textContent = version; }).catch(() => {});
showReadiness();
setInterval(showReadiness, READY_EVERY_MS);
