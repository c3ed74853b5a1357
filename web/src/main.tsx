// The dashboard: the frame around the pages, the way between them, and the keyboard.

import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { call, get, may, me, Me, Problem } from "./api";
import { Icon, Logo } from "./icons";
import { begin, end, jobs, stale, status } from "./live";
import { Dialog, Field, Pill, Toasts, Trouble, textOf } from "./parts";
import { Access } from "./pages/access";
import { Audit } from "./pages/audit";
import { Bucket, Buckets } from "./pages/buckets";
import { Cluster } from "./pages/cluster";
import { Jobs } from "./pages/jobs";
import { Metrics } from "./pages/metrics";
import { Objects } from "./pages/objects";
import { Overview } from "./pages/overview";
import { Repair } from "./pages/repair";

interface PageOf { key: string; name: string; at: string; icon: string; action: string }

const pages: PageOf[] = [
  { key: "o", name: "Overview", at: "", icon: "overview", action: "cairn:GetStatus" },
  { key: "c", name: "Cluster map", at: "cluster", icon: "cluster", action: "cairn:GetStatus" },
  { key: "r", name: "Repair and scrub", at: "repair", icon: "repair", action: "cairn:GetStatus" },
  { key: "j", name: "Jobs", at: "jobs", icon: "jobs", action: "cairn:ListJobs" },
  { key: "b", name: "Buckets", at: "buckets", icon: "buckets", action: "" },
  { key: "a", name: "Access", at: "access", icon: "access", action: "cairn:ListUsers" },
  { key: "l", name: "Audit log", at: "audit", icon: "audit", action: "cairn:ListAudit" },
  { key: "m", name: "Metrics", at: "metrics", icon: "metrics", action: "cairn:GetStatus" },
];

/** route is what the address names: "#/buckets/photos" is ["buckets", "photos"]. */
const route = signal<string[]>([]);
const readRoute = () => (route.value = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent));
addEventListener("hashchange", readRoute);
readRoute();

const menu = signal(false);
const overlay = signal<"" | "palette" | "help">("");
const theme = signal(localStorage.getItem("theme") ?? "");

function setTheme(t: string) {
  theme.value = t;
  if (t) document.documentElement.dataset.theme = t;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("theme", t);
}
if (theme.value) document.documentElement.dataset.theme = theme.value;

const visible = () => pages.filter((p) => !p.action || may(p.action));
const verdictWord: Record<string, string> = { ok: "all safe", healing: "healing", "at-risk": "at risk", lost: "data lost" };

function Page() {
  const [name, ...rest] = route.value;
  const titles: Record<string, string> = Object.fromEntries(pages.map((p) => [p.at, p.name]));
  const title = name === "objects" ? rest[0] : titles[name] ?? "Not found";
  useEffect(() => { document.title = `${title} · Cairn`; }, [title]);
  switch (name) {
    case "": return may("cairn:GetStatus") ? <Overview /> : <Buckets />;
    case "cluster": return <Cluster selected={rest[0] ?? ""} />;
    case "repair": return <Repair />;
    case "jobs": return <Jobs />;
    case "buckets": return rest[0] ? <Bucket name={rest[0]} /> : <Buckets />;
    case "objects": return <Objects bucket={rest[0]} prefix={rest[1] ?? ""} object={rest[2] ?? ""} />;
    case "access": return <Access tab={rest[0] || "users"} />;
    case "audit": return <Audit />;
    case "metrics": return <Metrics />;
  }
  return <div class="page"><h1>There is no such page</h1><p><a href="#/">To the overview</a></p></div>;
}

function Side() {
  const at = route.value[0] === "objects" ? "buckets" : route.value[0];
  const running = jobs.value.filter((j) => j.kind !== "repair" && !j.finished?.match(/^[1-9]/)).length;
  return (
    <aside class={"side" + (menu.value ? " open" : "")}>
      <a class="brand" href="#/"><Logo />Cairn</a>
      <nav aria-label="Pages" onClick={() => (menu.value = false)}>
        {visible().map((p) => (
          <a key={p.at} href={"#/" + p.at} aria-current={at === p.at ? "page" : undefined}>
            <Icon name={p.icon} />{p.name}{p.at === "jobs" && running > 0 && <span class="badge">{running}</span>}
          </a>
        ))}
      </nav>
      <div class="foot">
        <span class="break">{me.value!.name}{me.value!.root && " (root)"}</span>
        <div class="row">
          <button class="quiet icon" aria-label="Change between light and dark" title="Light or dark" onClick={() => setTheme(isDark() ? "light" : "dark")}><Icon name="theme" /></button>
          <button class="quiet" onClick={logout}><Icon name="out" />Log out</button>
        </div>
      </div>
    </aside>
  );
}

const isDark = () => (theme.value ? theme.value === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);

async function logout() {
  await call("POST", "/logout").catch(() => {});
  end();
  me.value = null;
}

function Frame() {
  useEffect(() => { if (may("cairn:GetStatus")) begin(); return end; }, []);
  const health = status.value?.health;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main")!.focus(); }}>To the page</a>
      <Side />
      <main class="main" id="main" tabIndex={-1}>
        <div class="top">
          <button class="burger quiet icon" aria-label="Menu" aria-expanded={menu.value} onClick={() => (menu.value = !menu.value)}><Icon name="menu" /></button>
          {health && <a href="#/" aria-live="polite"><Pill state={health} text={verdictWord[health]} /></a>}
          <span class="grow" />
          <button class="quiet" onClick={() => (overlay.value = "palette")}>Go to <kbd>Ctrl K</kbd></button>
          <button class="quiet icon" aria-label="Keys" title="Keys" onClick={() => (overlay.value = "help")}><kbd>?</kbd></button>
        </div>
        {stale.value && <div class="stale" role="status">{stale.value}</div>}
        <Page key={route.value.slice(0, 2).join("/")} />
      </main>
      {overlay.value === "palette" && <Palette />}
      {overlay.value === "help" && <Help />}
    </div>
  );
}

function Palette() {
  const [text, type] = useState("");
  const [at, move] = useState(0);
  const [buckets, setBuckets] = useState<string[]>([]);
  useEffect(() => { if (may("cairn:ListBuckets")) get<{ name: string }[]>("/api/v1/buckets").then((l) => setBuckets(l.map((b) => b.name)), () => {}); }, []);
  const all = [...visible().map((p) => ({ name: p.name, kind: "page", to: "#/" + p.at })), ...buckets.map((b) => ({ name: b, kind: "bucket", to: `#/objects/${encodeURIComponent(b)}` }))];
  const found = all.filter((x) => x.name.toLowerCase().includes(text.toLowerCase())).slice(0, 50);
  const close = () => (overlay.value = "");
  const go = (i: number) => { if (found[i]) { location.hash = found[i].to; close(); } };
  const key = (e: KeyboardEvent) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); move((at + (e.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(found.length, 1)); }
    if (e.key === "Enter") go(at);
  };
  return (
    <Dialog title="Go to" class="palette" close={close}>
      <input role="combobox" aria-expanded="true" aria-controls="found" aria-activedescendant={`found-${at}`} aria-label="A page or a bucket" placeholder="A page or a bucket" value={text} onInput={(e) => { type(e.currentTarget.value); move(0); }} onKeyDown={key} />
      <ul id="found" role="listbox" aria-label="Found">
        {found.map((x, i) => <li key={x.to} id={`found-${i}`} role="option" aria-selected={i === at} onClick={() => go(i)}><span class="break">{x.name}</span><span class="small">{x.kind}</span></li>)}
      </ul>
    </Dialog>
  );
}

const Help = () => (
  <Dialog title="Keys" close={() => (overlay.value = "")}>
    <dl class="facts">
      <dt><kbd>Ctrl K</kbd></dt><dd>go to a page or a bucket</dd><dt><kbd>/</kbd></dt><dd>filter the list</dd>
      <dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>down and up in a table; <kbd>Enter</kbd> opens</dd>
      {visible().map((p) => [<dt key={p.key}><kbd>g</kbd> <kbd>{p.key}</kbd></dt>, <dd key={p.key + "d"}>{p.name}</dd>])}
    </dl>
    <footer><button onClick={() => (overlay.value = "")}>Close</button></footer>
  </Dialog>
);

function Login() {
  const [access, setAccess] = useState("");
  const [secret, setSecret] = useState("");
  const [error, setError] = useState("");
  const plain = location.protocol === "http:" && !/^(localhost|127\.|\[::1\])/.test(location.hostname);
  const submit = async (e: Event) => {
    e.preventDefault();
    try {
      await call<Me>("POST", "/login", { access_key: access, secret_key: secret });
      me.value = await get<Me | null>("/session");
      if (!me.value) setError("The browser kept no session.");
    } catch (err) {
      setError(err instanceof Problem && err.status === 401 ? "These keys do not fit. Check both." : textOf(err));
    }
  };
  return (
    <main class="login">
      <form class="card" onSubmit={submit}>
        <h1 class="brand"><Logo />Cairn</h1>
        {plain && <div class="warn">Browsers keep a login over https or to this very machine only. Put a proxy with TLS in front, or use a tunnel: <code>ssh -L 9001:127.0.0.1:9001 HOST</code></div>}
        <Field label="Access key"><input name="access" autocomplete="username" spellcheck={false} value={access} onInput={(e) => setAccess(e.currentTarget.value)} required /></Field>
        <Field label="Secret key"><input name="secret" type="password" autocomplete="current-password" value={secret} onInput={(e) => setSecret(e.currentTarget.value)} required /></Field>
        <Trouble error={error} />
        <button class="primary">Log in</button>
        <p class="soft small">The root keys are in <code>DATA/credentials</code> of the first node, unless they were given. Users need the action <code>cairn:Console</code>.</p>
      </form>
    </main>
  );
}

function App() {
  useEffect(() => { get<Me | null>("/session").then((m) => (me.value = m), () => (me.value = null)); }, []);
  return <>{me.value === undefined ? null : me.value ? <Frame key={me.value.access_key} /> : <Login />}<Toasts /></>;
}

let leader = 0; // when "g" was pressed
addEventListener("keydown", (e) => {
  if (!me.value) return;
  if ((e.ctrlKey || e.metaKey) && e.key === "k") { e.preventDefault(); overlay.value = "palette"; return; }
  const typing = (e.target as HTMLElement).closest("input,textarea,select,[role=dialog]");
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
  if (Date.now() - leader < 1500) {
    const p = visible().find((p) => p.key === e.key);
    leader = 0;
    if (p) { location.hash = "#/" + p.at; return; }
  }
  if (e.key === "g") leader = Date.now();
  if (e.key === "?") overlay.value = "help";
  if (e.key === "/") { e.preventDefault(); document.querySelector<HTMLInputElement>("input[data-filter]")?.focus(); }
  if (e.key === "j" || e.key === "k") step(e.key === "j" ? 1 : -1);
  if (e.key === "Enter" && !(e.target as HTMLElement).closest("a,button")) document.querySelector<HTMLElement>("tr.at a, tr.at button")?.click();
});

/** step moves the marked row of the page's first table. */
function step(by: number) {
  const rows = Array.from(document.querySelectorAll("main tbody tr"));
  const at = rows.findIndex((r) => r.classList.contains("at"));
  rows[at]?.classList.remove("at");
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  next?.classList.add("at");
  next?.scrollIntoView({ block: "nearest" });
}

render(<App />, document.getElementById("app")!);
