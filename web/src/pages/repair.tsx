import { useState } from "preact/hooks";
import { call, enc, get, may, Job, ObjectMap } from "../api";
import { ago, bytes, count, duration, parseBytes, plural } from "../format";
import { jobs, status } from "../live";
import { Card, Cli, Field, Form, Pill, Trouble, Work, attempt, textOf, toast } from "../parts";
import { ShardMap } from "./shards";

export const ended = (j: Job) => ["done", "failed", "canceled"].includes(j.state);

export function JobButtons({ j }: { j: Job }) {
  if (!may("cairn:ChangeJob") || ended(j)) return null;
  const wish = (w: string, text: string) => attempt(() => call("POST", `/api/v1/jobs/${j.id}/${w}`), text);
  return (
    <span class="row">
      {j.wish === "pause" ? <button onClick={() => wish("resume", "It goes on.")}>Resume</button> : <button onClick={() => wish("pause", "It pauses.")}>Pause</button>}
      {j.kind !== "repair" && <button class="danger" onClick={() => wish("cancel", "It is being canceled.")}>Cancel</button>}
    </span>
  );
}

function Throttle({ close }: { close: () => void }) {
  const [text, type] = useState("");
  const submit = async () => {
    const n = parseBytes(text);
    if (!(n > 0)) throw new Error("Want a size, for example 200 MiB.");
    await call("POST", `/api/v1/repair/throttle?drive-ceiling=${n}`);
    toast(`Background work moves at most ${bytes(n)}/s on a drive from now on.`);
    close();
  };
  return (
    <Form title="Bound background work" action="Set" close={close} submit={submit}>
      <Field label="Bytes per second on each drive" hint="The ceiling, for example 200 MiB: below it the work gives way to clients by itself. To stop repair altogether, pause it."><input value={text} onInput={(e) => type(e.currentTarget.value)} placeholder="200 MiB" required /></Field>
    </Form>
  );
}

function Verify() {
  const [name, type] = useState("");
  const [state, set] = useState<{ busy?: boolean; error?: string; map?: ObjectMap }>({});
  const submit = async (e: Event) => {
    e.preventDefault();
    const cut = name.indexOf("/");
    set({ busy: true });
    try {
      set({ map: await get<ObjectMap>(`/api/v1/objects/${enc(name.slice(0, cut))}/${enc(name.slice(cut + 1))}/shards?verify=1`) });
    } catch (err) {
      set({ error: textOf(err) });
    }
  };
  return (
    <Card title="Verify one object">
      <form class="row" onSubmit={submit}>
        <label class="grow"><span class="hidden">Bucket and key</span><input placeholder="bucket/key" value={name} onInput={(e) => type(e.currentTarget.value)} required pattern="[^/]+/.+" /></label>
        <button disabled={state.busy}>Read and check every shard</button>
      </form>
      <Trouble error={state.error} />
      {state.map && <ShardMap map={state.map} checked />}
      <Cli line={`cairn object show ${name || "BUCKET/KEY"} --verify`} />
    </Card>
  );
}

export function Repair() {
  const [throttling, throttle] = useState(false);
  const s = status.value;
  if (!s) return <div class="page"><h1>Repair and scrub</h1><p class="soft">Waiting for the first word from the server …</p></div>;
  const job = jobs.value.find((j) => j.kind === "repair");
  const rows = Object.entries(s.blobs_by_spare).map(([n, c]) => [+n, c] as const).filter(([n, c]) => c > 0 && n < (+s.profile.split("+")[1] || 0)).sort((a, b) => a[0] - b[0]);
  return (
    <div class="page">
      <div class="head"><h1>Repair and scrub</h1></div>
      <div class="two">
        <Card title="Repair" side={<Pill state={job?.wish === "pause" ? "paused" : s.repair.state} />}>
          <div class="row"><span class="big" data-queued>{count(s.repair.queued)}</span><span class="soft">findings wait{s.repair.waiting ? ": " + s.repair.waiting : ""}</span></div>
          <Work p={s.repair} label="Repair" />
          <dl class="facts"><dt>Rebuilt in this run</dt><dd data-rebuilt>{plural(s.repair.done_blobs, "blob")}, {bytes(s.repair.done_bytes)}</dd><dt>Time to safe</dt><dd>{s.repair.eta_ns ? duration(s.repair.eta_ns / 1e9) : s.repair.queued ? "not known yet" : "safe now"}</dd></dl>
          {rows.length > 0 && <><h2>By urgency</h2><table><tbody>{rows.map(([n, c]) => <tr key={n}><td><Pill state={n < 0 ? "lost" : n === 0 ? "at-risk" : "healing"} text={n < 0 ? "lost" : plural(n, "shard") + " to spare"} /></td><td class="right">{plural(c, "blob")}</td></tr>)}</tbody></table></>}
          <div class="row">{job && <JobButtons j={job} />}{may("cairn:ThrottleRepair") && <button onClick={() => throttle(true)}>Throttle…</button>}</div>
          <Cli line="cairn repair status" />
        </Card>
        <Card title="Scrub" side={<Pill state={s.scrub.state} />}>
          <div class="row"><span class="big">{count(s.scrub.findings)}</span><span class="soft">findings and {plural(s.scrub.orphans, "orphan")} since the process began</span></div>
          <Work p={s.scrub} label="Scrub" />
          <dl class="facts"><dt>Full passes</dt><dd>{count(s.scrub.passes)}</dd><dt>Began</dt><dd>{ago(s.scrub.started)}</dd><dt>Last ended</dt><dd>{ago(s.scrub.finished)}</dd></dl>
          {may("cairn:StartScrub") && <div class="row"><button onClick={() => attempt(() => call("POST", "/api/v1/scrub"), "A full pass has begun.")}>Check every shard now</button></div>}
          <Cli line="cairn scrub start --wait" />
        </Card>
      </div>
      {may("cairn:GetObjectShards") && <Verify />}
      {throttling && <Throttle close={() => throttle(false)} />}
    </div>
  );
}
