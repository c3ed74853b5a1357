import { ago, when } from "../format";
import { drives, jobs } from "../live";
import { Card, Cli, Empty, Pill, Work } from "../parts";
import { JobButtons, ended } from "./repair";

const subject = (s?: string) => (s ? drives.value.find((d) => d.id === s)?.path ?? s : "");

export function Jobs() {
  const list = [...jobs.value].sort((a, b) => +ended(a) - +ended(b) || b.id - a.id);
  return (
    <div class="page">
      <div class="head"><h1>Jobs</h1></div>
      <Card flush>
        {list.length === 0 ? <Empty title="No jobs">Long work shows here while it runs, and for a while after.</Empty> : (
          <div class="wide" tabIndex={0}><table>
            <thead><tr><th>Job</th><th>What</th><th>State</th><th>How far</th><th>Began</th><th><span class="hidden">Change</span></th></tr></thead>
            <tbody>{list.map((j) => (
              <tr key={j.id}>
                <td>{j.id}</td><td><b>{j.kind}</b> <span class="mono small break">{subject(j.subject)}</span></td><td><Pill state={j.wish === "pause" ? "paused" : j.state} /></td>
                <td><Work p={j} label={`Job ${j.id}`} /></td><td class="nowrap" title={when(j.created)}>{ago(j.created)}</td><td class="act"><JobButtons j={j} /></td>
              </tr>
            ))}</tbody></table></div>
        )}
      </Card>
      <Cli line="cairn job ls --all" />
    </div>
  );
}
