import { Sample, Status, may } from "../api";
import { ago, bytes, count, duration, plural, rate } from "../format";
import { Chart } from "../chart";
import { Icon } from "../icons";
import { drives, jobs, sample, samples, status } from "../live";
import { Bar, Card, Cli, Empty, Pill, Work, tone } from "../parts";

/** sentence says the verdict as one would to a colleague. */
export function sentence(s: Status): string {
  const bad = drives.value.filter((d) => d.state !== "ok").length;
  const drivesText = bad ? ` ${plural(bad, "drive is", "drives are")} not well.` : "";
  switch (s.health) {
    case "ok": return "All data safe." + drivesText;
    case "healing": return "All data readable; full redundancy is being restored." + drivesText;
    case "at-risk": return "Data at risk: the next loss could be one of data." + drivesText;
  }
  return "Some data cannot be read now." + drivesText;
}

function timeToSafe(s: Status): string {
  if (s.health === "ok") return "safe now";
  if (s.repair.eta_ns) return duration(s.repair.eta_ns / 1e9);
  if (s.repair.waiting) return s.repair.waiting;
  return s.needs ? "needs " + s.needs : "not known yet";
}

const Verdict = ({ s }: { s: Status }) => (
  <section class={`card verdict ${tone(s.health)}`} aria-live="polite" data-health={s.health}>
    <div class="row"><span class={"pill " + tone(s.health)}><Icon name={s.health} />{s.health}</span></div>
    <div class="grow"><div class="sentence">{sentence(s)}</div>{s.reasons && s.reasons.length > 0 && <ul>{s.reasons.map((r) => <li key={r}>{r}</li>)}</ul>}</div>
  </section>
);

function Capacity({ s }: { s: Status }) {
  const c = s.capacity;
  return (
    <Card title="Capacity">
      <div class="big">{bytes(c.usable_bytes)}</div>
      <div class="soft">clients may still store, at {s.profile}</div>
      <Bar part={c.total_bytes - c.free_bytes} whole={c.total_bytes} label="Used space of all drives" />
      <dl class="facts small">
        <dt>Shards hold</dt><dd>{bytes(c.used_bytes)}</dd><dt>Free on drives</dt><dd>{bytes(c.free_bytes)} of {bytes(c.total_bytes)}</dd>
        <dt>Full in</dt><dd>{forecast(samples.value, c.usable_bytes)}</dd>
      </dl>
    </Card>
  );
}

/** forecast goes on as the last day went. */
export function forecast(list: Sample[], usable: number): string {
  const known = list.filter((s) => s.used_bytes > 0);
  if (known.length < 30) return "not known yet";
  const first = known[0], last = known[known.length - 1];
  const seconds = (Date.parse(last.time) - Date.parse(first.time)) / 1000;
  const gone = first.usable_bytes - last.usable_bytes;
  return gone <= 0 || seconds <= 0 ? "does not grow" : duration((usable / gone) * seconds);
}

function Spare({ s }: { s: Status }) {
  const rows = Object.entries(s.blobs_by_spare).map(([n, c]) => [+n, c] as const).sort((a, b) => b[0] - a[0]);
  const all = rows.reduce((n, r) => n + r[1], 0);
  const full = Math.max(...rows.map((r) => r[0]), +s.profile.split("+")[1] || 0);
  const name = (n: number) => (n < 0 ? "lost" : n === 0 ? "none to spare" : plural(n, "shard") + " to spare");
  return (
    <Card title="Blobs by spare">
      {rows.length === 0 ? <Empty title="No blobs yet">Small objects live in the metadata; larger ones show here.</Empty> : (
        <div class="spare">
          {rows.map(([n, c]) => [<span key={n}>{name(n)}</span>, <div key={n + "b"} class={"bar s-" + (n < 0 ? "lost" : n === 0 && full > 0 ? "bare" : n < full ? "low" : "full")}><i style={{ width: (100 * c) / all + "%" }} /></div>, <span key={n + "c"} class="right">{count(c)}</span>])}
        </div>
      )}
      <dl class="facts small"><dt>Time to safe</dt><dd data-safe>{timeToSafe(s)}</dd><dt>Repair</dt><dd>{s.repair.state}, {plural(s.repair.queued, "finding")} queued</dd></dl>
    </Card>
  );
}

export const timesOf = (list: Sample[]) => list.map((s) => Date.parse(s.time) / 1000);

function Traffic({ now }: { now: Sample | null }) {
  const list = samples.value.slice(-180);
  return (
    <Card title="Requests" side={<a href="#/metrics">24 hours</a>}>
      <div class="row">
        <span class="big">{(now?.requests_per_second ?? 0).toFixed(1)}/s</span>
        <span class="soft">in {rate(now?.in_bytes_per_second ?? 0)}, out {rate(now?.out_bytes_per_second ?? 0)}</span>
      </div>
      <Chart title="Requests per second, last half hour" height={130} times={timesOf(list)} show={(n) => n.toFixed(n < 10 ? 1 : 0)} lines={[{ name: "requests/s", values: list.map((s) => s.requests_per_second), colour: "--accent" }, { name: "failed/s", values: list.map((s) => s.errors_per_second), colour: "--bad" }]} />
      <div class="small soft">p50 {duration(now?.p50_seconds ?? 0)}, p99 {duration(now?.p99_seconds ?? 0)}, {(now?.errors_per_second ?? 0).toFixed(1)}/s failed by the store, {(now?.refused_per_second ?? 0).toFixed(1)}/s refused. Every 10 s, of this node.</div>
    </Card>
  );
}

export function Overview() {
  const s = status.value;
  if (!s) return <div class="page"><h1>Overview</h1><p class="soft">Waiting for the first word from the server …</p></div>;
  const running = jobs.value.filter((j) => !["done", "failed", "canceled"].includes(j.state));
  const bad = drives.value.filter((d) => d.state !== "ok");
  return (
    <div class="page">
      <div class="head"><h1>Overview</h1><span class="soft small">cluster {s.cluster.slice(0, 8)}, this node up {ago(s.started).replace(" ago", "")}</span></div>
      <Verdict s={s} />
      <div class="two"><Capacity s={s} /><Spare s={s} /></div>
      <div class="two">
        <Traffic now={sample.value} />
        <div class="stack">
        <Card title="Jobs" side={may("cairn:ListJobs") && <a href="#/jobs">All jobs</a>}>
          {running.length === 0 ? <Empty title="Nothing runs" /> : running.slice(0, 5).map((j) => <div class="stack" key={j.id}><div class="row"><b>{j.kind}</b><span class="soft mono">{j.subject?.slice(0, 8)}</span><Pill state={j.state} /></div><Work p={j} label={`Job ${j.id}`} /></div>)}
        </Card>
        <Card title="Drives" side={<a href="#/cluster">Cluster map</a>}>
          <div class="row"><span class="big">{drives.value.length - bad.length}</span><span class="soft">of {drives.value.length} are well</span></div>
          {bad.slice(0, 6).map((d) => <div class="row" key={d.path}><Pill state={d.state} /><a href={`#/cluster/${encodeURIComponent(d.id || d.path)}`} class="mono break">{d.node ? d.node + ":" : ""}{d.path}</a><span class="soft small">{ago(d.since)}</span></div>)}
          <div class="small soft">{plural(s.voters.filter((v) => v.state === "up").length, "metadata voter")} up of {s.voters.length}; {plural(s.volumes.open + s.volumes.sealed, "volume")}</div>
        </Card>
        </div>
      </div>
      <Cli line="cairn status" />
    </div>
  );
}
