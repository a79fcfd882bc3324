// Reads /api/state every two seconds and shows it. All text goes in as text, never as markup.
"use strict";

const EVERY_MS = 2000;
const NONE = "–";
const openCycles = new Set();
const drawn = new Map();

const byId = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const format = (digits) => new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const two = format(2);
const any = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 7 });
const known = (value) => value !== null && value !== undefined;
const usd = (value) => (known(value) ? `${Number(value) < 0 ? "−" : ""}$${two.format(Math.abs(Number(value)))}` : NONE);
const amount = (value) => (known(value) ? any.format(Number(value)).replace("-", "−") : NONE);
const percent = (value, digits = 2) => (known(value) ? `${format(digits).format(100 * value).replace("-", "−")}%` : NONE);
const milliseconds = (value) => (known(value) ? (value < 1000 ? `${Math.round(value)} ms` : `${two.format(value / 1000)} s`) : NONE);
const bps = (value) => (known(value) ? `${format(1).format(value).replace("-", "−")} bps` : NONE);
// What rounds to nothing has no sign.
const sign = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "exceptZero" });
const signed = (value) => (known(value) ? sign.format(value).replace("-", "−") : NONE);
const clock = (ms) => (known(ms) ? new Date(ms).toISOString().slice(11, 19) : NONE);
const cycleTime = (id) => `${id.slice(4, 6)}-${id.slice(6, 8)} ${id.slice(9, 11)}:${id.slice(11, 13)}`;
const tone = (value) => (Number(value) > 0 ? "up" : Number(value) < 0 ? "down" : "soft");
const cell = (text, kind = "") => el("td", { class: kind }, text);
const num = (text, kind = "") => cell(text, `num ${kind}`);

// Draws a part only when what it shows has changed, so that focus and selection stay.
function draw(id, content, make) {
  const now = JSON.stringify(content);
  if (drawn.get(id) === now) return;
  drawn.set(id, now);
  const target = byId(id);
  const focused = target.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  target.replaceChildren(...make(content));
  if (focused) target.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

const orNone = (rows, columns, text) => (rows.length ? rows : [el("tr", {}, el("td", { class: "none", colspan: columns }, text))]);

function drawTop(page) {
  const loudPrices = page.prices !== "live";
  const chips = [
    [page.network, page.network === "mainnet"],
    [`${page.price_label} PRICES`, loudPrices],
    page.dry_run ? ["DRY RUN: nothing is sent", true] : null,
    page.speed !== 1 ? [`${amount(page.speed)}× time`, true] : null,
  ].filter(Boolean);
  draw("chips", chips, (list) => list.map(([text, loud]) => el("span", { class: loud ? "chip loud" : "chip" }, text)));
  for (const label of document.querySelectorAll("[data-label]")) {
    label.textContent = loudPrices ? page.price_label : "";
    label.className = loudPrices ? "label loud" : "label";
  }
  byId("who").textContent = `Bot ${page.bot_id} · account ${page.account ?? NONE} · times are UTC${page.speed !== 1 ? " of the simulated clock" : ""}`;
}

function drawMode(page) {
  const mode = page.mode;
  const pill = byId("mode");
  pill.textContent = mode ? mode.mode.replace("_", " ") : NONE;
  pill.className = `pill ${mode ? mode.mode : ""}`;
  byId("mode-why").textContent = mode ? `by ${mode.source}${mode.reason ? `: ${mode.reason}` : ""}` : "";
  const applied = page.applied;
  const stamps = [
    [`Execution is in ${(applied.mode ?? NONE).replace("_", " ")}`, applied.received_at, "received"],
    ["Orders cancelled", applied.cancelled_at, `${applied.open_orders ?? NONE} open`],
    ["Acknowledged", applied.acked_at, applied.flatten ? `flatten: ${applied.flatten}` : ""],
  ];
  draw("stamps", stamps, (list) =>
    list.map(([text, at, note]) =>
      el("li", { class: known(at) ? "done" : "" }, text, el("span", {}, known(at) ? clock(at) : NONE, note ? ` · ${note}` : ""))));
  byId("controls").hidden = !page.may_command;
  byId("token-field").hidden = !page.needs_token;
}

function sparkline(points) {
  if (points.length < 2) return null;
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (at) => (100 * (at - first)) / (last - first || 1);
  const y = (value) => 29 - (28 * (value - low)) / (high - low || 1);
  const line = points.map(([at, value], index) => `${index ? "L" : "M"}${x(at).toFixed(2)} ${y(value).toFixed(2)}`).join("");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Equity from ${usd(values[0])} to ${usd(values[values.length - 1])}, lowest ${usd(low)}, highest ${usd(high)}`);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", line);
  svg.append(path);
  return svg;
}

// Who decided in the cycles shown; loud where the baseline had to step in.
function decisions(cycles) {
  const decided = cycles.filter((cycle) => cycle.used);
  if (!decided.length) return ["Decisions", NONE, "none yet"];
  const fallen = decided.filter((cycle) => cycle.fallback);
  const asked = decided.find((cycle) => !cycle.fallback)?.used ?? "baseline";
  if (!fallen.length) return ["Decisions", asked, `all of the last ${decided.length}`];
  const note = `${fallen.length} of ${decided.length} fell back; last: ${fallen[0].fallback}`;
  return ["Decisions", decided[0].fallback ? "baseline" : asked, note, null, "loud"];
}

// Money and calls of the language model; nothing where none is asked. Loud while it is left alone or the cap is near.
function model(llm) {
  if (!llm) return null;
  const small = known(llm.spend_usd) && Number(llm.spend_usd) < 1;
  const spent = small ? `$${format(4).format(Number(llm.spend_usd))}` : usd(llm.spend_usd);
  const alone = llm.circuit?.open;
  const near = known(llm.cap_usd) && Number(llm.spend_usd) > 0.9 * Number(llm.cap_usd);
  const tokens = known(llm.tokens_in) ? `${amount(llm.tokens_in)} + ${amount(llm.tokens_out)} tokens` : "";
  const calls = llm.calls ? `${llm.calls} call${llm.calls > 1 ? "s" : ""}` : "not asked";
  const last = [calls, tokens, known(llm.latency_s) ? milliseconds(1000 * llm.latency_s) : ""].filter(Boolean).join(", ");
  const note = [`of ${usd(llm.cap_usd)} today`, alone ? `left alone after ${llm.circuit.failures} failures in a row` : last, llm.name];
  return ["Model", spent, note.join("; "), null, alone || near ? "loud" : ""];
}

function drawFigures(page) {
  const health = page.health;
  const f = page.figures;
  const loud = page.prices !== "live" ? ` · ${page.price_label} prices` : "";
  const figures = [
    ["Equity", usd(page.equity_usd), `cash ${usd(page.cash_usd)}${loud}`, page.equity_curve],
    ["Exposure", percent(page.gross, 1), `gross; net ${percent(page.net, 1)}`],
    ["Fees today", usd(health?.fees_today_usd), `deposits, net ${usd(health?.deposits_net_usd)}`],
    ["Reconciled", known(page.snapshot_age_s) ? `${Math.max(0, Math.round(page.snapshot_age_s))} s ago` : NONE,
      health ? (health.reconcile_ok ? `clock skew ${health.clock_skew_ms} ms` : `failing: ${health.detail}`) : "no snapshot yet"],
    ["Orders / min", amount(f.orders_per_min), `${amount(f.cancels_per_min)} cancels; ${percent(f.reject_ratio, 1)} refused`],
    ["Fill latency", milliseconds(f.fill_latency_p50_ms),
      `p99 ${milliseconds(f.fill_latency_p99_ms)}; slip ${bps(f.slippage_mean_bps)}`],
    decisions(page.cycles),
    model(page.llm),
  ].filter(Boolean);
  byId("figures").classList.toggle("eight", figures.length === 8);
  draw("figures", figures, (list) =>
    list.map(([name, value, note, curve, kind]) =>
      el("div", { class: "card figure" }, el("h2", {}, name), el("b", {}, value), el("small", { class: kind ?? "", title: note }, note),
        curve ? sparkline(curve) : null)));
}

function bar(weight, target, most) {
  const middle = most.negative ? 50 : 0;
  const scale = most.negative ? 50 / most.value : 100 / most.value;
  const node = el("div", { class: "bar", role: "img", "aria-label": `holds ${percent(weight)}, approved ${percent(target)}` });
  if (most.negative) node.append(el("s"));
  const fill = el("i");
  fill.style.left = `${middle + Math.min(0, weight * scale)}%`;
  fill.style.width = `${Math.abs(weight * scale)}%`;
  node.append(fill);
  if (known(target)) {
    const mark = el("u");
    mark.style.left = `${Math.min(99.5, Math.max(0.5, middle + target * scale))}%`;
    node.append(mark);
  }
  return node;
}

const regimeText = (regime) => (regime ? `${regime.name}, risk ${percent(regime.risk_multiplier, 0)}` : "");

function drawPositions(page) {
  byId("regime").textContent = regimeText(page.regime);
  draw("positions", page.positions, (rows) => {
    const weights = rows.flatMap((row) => [row.weight, row.approved ?? 0]);
    const most = { value: Math.max(0.01, ...weights.map(Math.abs)), negative: weights.some((weight) => weight < 0) };
    return orNone(rows.map((row) => el("tr", {},
      el("th", { scope: "row" }, row.symbol, row.external ? el("span", { class: "label" }, "external") : null),
      num(amount(row.qty)), num(amount(row.mark_px)), num(usd(row.value_usd)),
      num(usd(row.unreal_pnl), tone(row.unreal_pnl)), num(percent(row.weight)), num(percent(row.target)),
      num(percent(row.approved)), el("td", {}, bar(row.weight, row.approved, most)),
      num(bps(row.spread_bps)), num(signed(row.book_imbalance)),
      num(known(row.liquidity_score) ? two.format(row.liquidity_score) : NONE))), 12, "No positions yet");
  });
}

const modeTag = (mode) => (mode ? el("span", { class: `tag ${mode}` }, mode.replace("_", " ")) : NONE);

function weights(map) {
  return Object.entries(map).map(([symbol, weight]) => `${symbol} ${percent(weight)}`).join(", ") || "none";
}

function orderLine(order) {
  const filled = Number(order.filled_qty) > 0 ? ` ${amount(order.filled_qty)} at ${amount(order.avg_px)}` : "";
  const slip = known(order.slippage_bps) ? `, ${bps(order.slippage_bps)}` : "";
  return `${order.side} ${amount(order.qty)} ${order.symbol} at ${amount(order.limit_px)} (${order.reason}${order.attempt ? `, attempt ${order.attempt + 1}` : ""}): ` +
    `${order.status}${filled}${slip}${order.error ? `, ${order.error}` : ""}${order.dry_run ? ", dry run" : ""}`;
}

function cycleDetail(cycle) {
  const entries = [
    ["Cycle", cycle.cycle_id],
    ["Decided by", [cycle.used || NONE, cycle.fallback].filter(Boolean).join(": ")],
    ["Regime", regimeText(cycle.regime)],
    ["Targets", weights(cycle.targets)],
    ["Approved", weights(cycle.approved)],
    ["Clamps", cycle.rejections.map((r) => `${r.symbol} ${percent(r.original_weight)} to ${percent(r.approved_weight)}: ${r.reason}`).join("; ") || "none"],
    ["Flags", cycle.flags.join(", ") || "none"],
    ["Not planned", cycle.skipped.map((s) => `${s.symbol}: ${s.reason}`).join(", ") || "none"],
  ].filter(([, text]) => text);
  const orders = cycle.orders.length ? cycle.orders.map((order) => el("div", {}, orderLine(order))) : ["none"];
  return el("tr", { class: "detail", id: `detail-${cycle.cycle_id}` }, el("td", { colspan: 13 },
    el("dl", {}, ...entries.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
      el("dt", {}, "Orders"), el("dd", {}, ...orders))));
}

function toggle(id) {
  if (!openCycles.delete(id)) openCycles.add(id);
  drawn.delete("cycles");
  if (latest) drawCycles(latest);
}

function strategyCell(cycle) {
  if (!cycle.used) return cell(NONE);
  if (cycle.fallback) return el("td", { title: cycle.fallback }, el("span", { class: "tag loud" }, "fell back"));
  return cell(`${cycle.used}${known(cycle.confidence) ? ` · ${percent(cycle.confidence, 0)}` : ""}`);
}

function cycleRow(cycle) {
  const isOpen = openCycles.has(cycle.cycle_id);
  const button = el("button", {
    type: "button", class: "more", "aria-expanded": String(isOpen), "aria-controls": `detail-${cycle.cycle_id}`,
    "aria-label": `Details of cycle ${cycle.cycle_id}`, "data-key": cycle.cycle_id, onclick: () => toggle(cycle.cycle_id),
  }, isOpen ? "Less" : "More");
  return el("tr", {},
    el("th", { scope: "row" }, cycleTime(cycle.cycle_id)), el("td", {}, modeTag(cycle.mode)),
    strategyCell(cycle),
    num(percent(cycle.gross, 1)), num(percent(cycle.net, 1)), num(percent(cycle.turnover, 1)),
    num(amount(cycle.rejections.length)), num(amount(cycle.planned)), num(amount(cycle.orders.length)),
    num(amount(cycle.filled_orders)), num(usd(cycle.filled_usd)), num(usd(cycle.fees_usd)), el("td", {}, button));
}

function drawCycles(page) {
  draw("cycles", page.cycles, (cycles) =>
    orNone(cycles.flatMap((cycle) => [cycleRow(cycle), openCycles.has(cycle.cycle_id) ? cycleDetail(cycle) : null].filter(Boolean)),
      13, "No cycle yet: the first one comes at the next full minute"));
}

function drawOrders(page) {
  draw("orders", page.open_orders, (orders) => orNone(orders.map((order) => el("tr", {},
    el("th", { scope: "row" }, order.symbol), cell(order.side, order.side === "BUY" ? "up" : "down"),
    num(amount(order.qty)), num(amount(order.px)),
    cell(order.foreign ? "FOREIGN" : order.reduce_only ? `${order.status}, reduce only` : order.status, order.foreign ? "down" : ""),
    cell(order.client_order_id ?? order.exchange_order_id, "soft"))), 6, "No open orders"));
}

function drawAlerts(page) {
  draw("alerts", page.alerts, (alerts) => (alerts.length ? alerts.map((alert) => el("li", {},
    el("span", { class: `tag ${alert.level === "error" ? "HALT" : "REDUCE_ONLY"}` }, alert.level),
    el("b", {}, alert.kind.replaceAll("_", " ")), el("span", { class: "soft" }, `${clock(alert.at_ms)} · ${alert.source}`),
    el("span", { class: "text" }, alert.text))) : [el("li", { class: "soft" }, "None")]));
}

function drawBus(page) {
  const bus = page.bus;
  draw("bus", [bus.groups, bus.dead_letters], ([groups, letters]) => orNone(groups.map((row) => el("tr", {},
    el("th", { scope: "row" }, row.stream), cell(row.group, "soft"), num(amount(row.pending)), num(amount(row.lag)),
    num(known(row.oldest_pending_s) ? `${two.format(row.oldest_pending_s)} s` : NONE),
    num(amount(letters[row.stream] ?? 0), letters[row.stream] ? "down" : ""))), 6, "No groups yet"));
}

let latest = null;

function show(page) {
  latest = page;
  drawTop(page);
  drawMode(page);
  drawFigures(page);
  drawPositions(page);
  drawCycles(page);
  drawOrders(page);
  drawAlerts(page);
  drawBus(page);
  byId("live").classList.toggle("lost", !page.bus.connected);
  byId("live-text").textContent = `${clock(page.now_ms)} UTC`;
  const banner = byId("banner");
  banner.hidden = page.bus.connected;
  banner.textContent = page.bus.connected ? "" : `The figures below are old: ${page.bus.why}`;
}

function lost(error) {
  byId("live").classList.add("lost");
  byId("live-text").textContent = "monitor does not answer";
  byId("banner").hidden = false;
  byId("banner").textContent = `The figures below are old: the monitor does not answer (${error.message})`;
}

async function refresh() {
  try {
    const response = await fetch("/api/state", { cache: "no-store" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    show(await response.json());
  } catch (error) {
    lost(error);
  }
}

const QUESTIONS = {
  HALT: "Stop trading now and cancel all open orders?",
  REDUCE_ONLY: "Allow only orders that reduce positions?",
  RESUME: "Lift the restriction that a person has set? Others stay.",
};

function confirmed(command) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = QUESTIONS[command];
  byId("confirm-yes").textContent = command.replace("_", " ");
  byId("confirm-yes").className = command === "HALT" ? "danger" : "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function command(name) {
  if (!(await confirmed(name))) return;
  const headers = { "Content-Type": "application/json" };
  if (byId("token").value) headers.Authorization = `Bearer ${byId("token").value}`;
  // One id for one click, so that sending it again after a lost answer changes nothing.
  const body = JSON.stringify({ command: name, command_id: crypto.randomUUID?.() ?? null });
  try {
    let response = await fetch("/api/mode", { method: "POST", headers, body }).catch(() => null);
    response ??= await fetch("/api/mode", { method: "POST", headers, body });
    const answer = await response.json();
    byId("said").textContent = response.ok ? `${name.replace("_", " ")} sent` : `Refused: ${answer.detail}`;
  } catch (error) {
    byId("said").textContent = `Not sent: ${error.message}`;
  }
  await refresh();
}

for (const button of document.querySelectorAll("[data-command]")) {
  button.addEventListener("click", () => command(button.dataset.command));
}

// One request at a time: the next one is due two seconds after the last was answered.
(async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, EVERY_MS);
})();
