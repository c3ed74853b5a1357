import { useState } from "preact/hooks";
import { bytes, duration, rate } from "../format";
import { Chart } from "../chart";
import { samples } from "../live";
import { Card, Cli, Empty } from "../parts";
import { timesOf } from "./overview";

const spans: [string, number][] = [["15 minutes", 90], ["1 hour", 360], ["6 hours", 2160], ["24 hours", 8640]];
const fine = (n: number) => n.toFixed(n < 10 ? 1 : 0);

export function Metrics() {
  const [span, setSpan] = useState(360);
  const list = samples.value.slice(-span);
  const t = timesOf(list);
  return (
    <div class="page">
      <div class="head"><h1>Metrics</h1><span class="grow" /><label class="filter"><span class="hidden">Time span</span><select value={span} onChange={(e) => setSpan(+e.currentTarget.value)}>{spans.map(([name, n]) => <option key={n} value={n}>{name}</option>)}</select></label></div>
      <p class="soft">As this node saw it, in samples of ten seconds, since its process began and for 24 hours at most. <code>/metrics</code> has all of it for Prometheus.</p>
      {list.length === 0 ? <Card><Empty title="No sample yet">The first comes within ten seconds.</Empty></Card> : (
        <div class="two" key={span}>
          <Card title="Requests per second"><Chart title="Requests per second" times={t} show={fine} lines={[{ name: "all", values: list.map((s) => s.requests_per_second), colour: "--accent" }, { name: "refused", values: list.map((s) => s.refused_per_second), colour: "--warn" }, { name: "failed", values: list.map((s) => s.errors_per_second), colour: "--bad" }]} /></Card>
          <Card title="Latency"><Chart title="Latency" times={t} show={duration} lines={[{ name: "p99", values: list.map((s) => s.p99_seconds), colour: "--warn" }, { name: "p50", values: list.map((s) => s.p50_seconds), colour: "--accent" }]} /></Card>
          <Card title="Bytes of clients"><Chart title="Bytes of clients" times={t} show={rate} lines={[{ name: "out", values: list.map((s) => s.out_bytes_per_second), colour: "--accent" }, { name: "in", values: list.map((s) => s.in_bytes_per_second), colour: "--heal" }]} /></Card>
          <Card title="Repair"><Chart title="Repair" times={t} show={rate} lines={[{ name: "rebuilt", values: list.map((s) => s.repair_bytes_per_second), colour: "--heal" }]} /></Card>
          <Card title="Shards on drives"><Chart title="Shards on drives" times={t} show={bytes} lines={[{ name: "held", values: list.map((s) => s.used_bytes), colour: "--accent" }]} /></Card>
          <Card title="Findings that wait for repair"><Chart title="Findings that wait for repair" times={t} show={fine} lines={[{ name: "queued", values: list.map((s) => s.queued_damage), colour: "--bad" }]} /></Card>
        </div>
      )}
      <Cli line="cairn metrics history" />
    </div>
  );
}
