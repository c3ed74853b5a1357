// The pieces that pages are made of.

import { signal } from "@preact/signals";
import { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "./api";
import { bytes, duration, percent, rate } from "./format";
import { Icon } from "./icons";
import type { Progress } from "./api";

// What has just happened, for a moment.
const toasts = signal<{ id: number; text: string; bad: boolean }[]>([]);
let nextToast = 0;

export function toast(text: string, bad = false) {
  const id = nextToast++;
  toasts.value = [...toasts.value.slice(-3), { id, text, bad }];
  setTimeout(() => (toasts.value = toasts.value.filter((t) => t.id !== id)), bad ? 9000 : 4000);
}

export const Toasts = () => (
  <div class="toasts" role="status" aria-live="polite">
    {toasts.value.map((t) => <div key={t.id} class={"toast" + (t.bad ? " bad" : "")}>{t.text}</div>)}
  </div>
);

export const textOf = (e: unknown) => (e instanceof Problem && e.hint ? `${e.message} ${e.hint}` : e instanceof Error ? e.message : String(e));

/** attempt runs work and tells how it went. */
export async function attempt(work: () => Promise<unknown>, done = ""): Promise<boolean> {
  try {
    await work();
    if (done) toast(done);
    return true;
  } catch (e) {
    toast(textOf(e), true);
    return false;
  }
}

/** useLoad loads something when the page opens, when deps change, every now and then if every is set, and on demand. */
export function useLoad<T>(load: () => Promise<T>, deps: unknown[], every = 0) {
  const [state, set] = useState<{ value?: T; error?: string }>({});
  const turn = useRef(0);
  const reload = async () => {
    const mine = ++turn.current;
    try {
      const value = await load();
      if (mine === turn.current) set({ value });
    } catch (e) {
      if (mine === turn.current) set((s) => ({ value: s.value, error: textOf(e) }));
    }
  };
  useEffect(() => {
    reload();
    const timer = every ? setInterval(() => document.hidden || reload(), every) : 0;
    return () => {
      turn.current++; // an answer that comes late is of another page
      clearInterval(timer);
    };
  }, deps);
  return { ...state, reload };
}

export const Trouble = ({ error }: { error?: string }) => (error ? <div class="problem" role="alert">{error}</div> : null);

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }) => <div class="empty"><b>{title}</b>{children}</div>;

export function Card(p: { title?: string; side?: ComponentChildren; flush?: boolean; children: ComponentChildren }) {
  return (
    <section class={"card" + (p.flush ? " flush" : "")}>
      {p.title && <header><h2>{p.title}</h2><span class="grow" />{p.side}</header>}
      {p.children}
    </section>
  );
}

/** Cli shows the command line that does the same. */
export function Cli({ line }: { line: string }) {
  return (
    <div class="cli">
      <span class="nowrap">Same on the command line</span><code tabIndex={0}>{line}</code>
      <button class="quiet icon" title="Copy" aria-label="Copy the command line" onClick={() => copy(line)}><Icon name="copy" /></button>
    </div>
  );
}

export const copy = (text: string) => navigator.clipboard.writeText(text).then(() => toast("Copied."), () => toast("The browser does not let this page copy.", true));

const tones: Record<string, string> = {
  ok: "ok", up: "ok", done: "ok", active: "ok", running: "heal", healing: "heal", draining: "heal", queued: "heal", joining: "heal", idle: "", paused: "risk", waiting: "risk", suspect: "risk",
  full: "risk", "read-only": "risk", "at-risk": "risk", disabled: "risk", canceled: "", unreachable: "risk",
  hung: "lost", failing: "lost", missing: "lost", lost: "lost", down: "lost", out: "lost", failed: "lost", corrupt: "lost",
};
export const tone = (state: string) => tones[state] ?? "";

export const Pill = ({ state, text }: { state: string; text?: string }) => <span class={"pill " + tone(state)}><Icon name={state in { ok: 1, up: 1, done: 1, active: 1 } ? "ok" : tone(state) === "lost" ? "missing" : tone(state) === "risk" ? "failing" : "healing"} />{text ?? state}</span>;

export const Bar = ({ part, whole, label }: { part: number; whole: number; label: string }) => {
  const p = whole > 0 ? Math.min(100, (part / whole) * 100) : 0;
  return <div class={"bar" + (p > 85 ? " high" : "")} role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(p)}><i style={{ width: p + "%" }} /></div>;
};

/** Work shows how far long work is. */
export function Work({ p, label }: { p: Progress; label: string }) {
  const left = p.eta_ns ? `${duration(p.eta_ns / 1e9)} left` : "";
  return (
    <div class="stack">
      {p.total_bytes > 0 && <Bar part={p.done_bytes} whole={p.total_bytes} label={label} />}
      <div class="row small soft">
        {p.total_bytes > 0 && <span>{bytes(p.done_bytes)} of {bytes(p.total_bytes)} ({percent(p.done_bytes, p.total_bytes)})</span>}
        {p.rate_bytes_per_sec > 0 && <span>{rate(p.rate_bytes_per_sec)}</span>}
        {left && <span>{left}</span>}
        {p.reason && <span>{p.reason}</span>}
        {p.last_error && <span class="break">Last error: {p.last_error}</span>}
      </div>
    </div>
  );
}

/** Dialog is a question on top of the page. Escape closes it; the focus stays inside, and goes back where it was. */
export function Dialog(p: { title: string; close: () => void; wider?: boolean; class?: string; children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    box.current?.querySelector<HTMLElement>("input,textarea,select,button")?.focus();
    return () => before?.focus();
  }, []);
  const key = (e: KeyboardEvent) => {
    if (e.key === "Escape") p.close();
    if (e.key !== "Tab") return;
    const all = Array.from(box.current!.querySelectorAll<HTMLElement>("a[href],button:not(:disabled),input,textarea,select,[tabindex='0']"));
    const edge = e.shiftKey ? all[0] : all[all.length - 1];
    if (document.activeElement === edge) {
      e.preventDefault();
      (e.shiftKey ? all[all.length - 1] : all[0]).focus();
    }
  };
  return (
    <div class="veil" onMouseDown={(e) => e.target === e.currentTarget && p.close()}>
      <div ref={box} class={`dialog ${p.wider ? "wider" : ""} ${p.class ?? ""}`} role="dialog" aria-modal="true" aria-label={p.title} onKeyDown={key}>
        {!p.class && <h2>{p.title}</h2>}
        {p.children}
      </div>
    </div>
  );
}

/** Form is a dialog that does something and says why it cannot. */
export function Form(p: { title: string; action: string; danger?: boolean; wider?: boolean; disabled?: boolean; close: () => void; submit: () => Promise<unknown>; children: ComponentChildren }) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    try {
      await p.submit();
    } catch (err) {
      setError(textOf(err));
      setBusy(false);
    }
  };
  return (
    <Dialog title={p.title} close={p.close} wider={p.wider}>
      <form class="stack" onSubmit={submit}>
        {p.children}
        <Trouble error={error} />
        <footer>
          <button type="button" onClick={p.close}>Cancel</button>
          <button class={"primary" + (p.danger ? " danger" : "")} disabled={busy || p.disabled}>{p.action}</button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Confirm asks before something is removed; what holds data asks for its name. */
export function Confirm(p: { title: string; action: string; name?: string; close: () => void; submit: () => Promise<unknown>; children: ComponentChildren }) {
  const [typed, type] = useState("");
  return (
    <Form title={p.title} action={p.action} danger disabled={p.name !== undefined && typed !== p.name} close={p.close} submit={p.submit}>
      <div>{p.children}</div>
      {p.name !== undefined && <Field label={`Type ${p.name} to go on`}><input value={typed} onInput={(e) => type(e.currentTarget.value)} autocomplete="off" /></Field>}
    </Form>
  );
}

export const Field = (p: { label: string; hint?: string; children: ComponentChildren }) => <label class="field">{p.label}{p.children}{p.hint && <span class="soft small">{p.hint}</span>}</label>;

export function Tabs({ at, tabs }: { at: string; tabs: [string, string][] }) {
  return <nav class="tabs" aria-label="Views">{tabs.map(([href, name]) => <a key={href} href={href} aria-current={at === href ? "page" : undefined}>{name}</a>)}</nav>;
}
