import { useState } from "preact/hooks";
import { Audit as Row, enc, get } from "../api";
import { ago, when } from "../format";
import { Card, Cli, Empty, Pill, Trouble, useLoad } from "../parts";

interface Page { records: Row[]; next?: number }

/** save lets the browser save a document that the page has made. */
function save(name: string, text: string) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  a.download = name;
  a.click();
  URL.revokeObjectURL(a.href);
}

export function Audit() {
  const [who, setWho] = useState("");
  const [failed, setFailed] = useState(false);
  const [before, setBefore] = useState(0);
  const q = `max=100${who ? "&who=" + enc(who) : ""}${failed ? "&failed=1" : ""}${before ? "&before=" + before : ""}`;
  const page = useLoad(() => get<Page>("/api/v1/audit?" + q), [q], before ? 0 : 5000);
  const list = page.value?.records ?? [];
  return (
    <div class="page">
      <div class="head"><h1>Audit log</h1><span class="grow" />
        <label class="check"><input type="checkbox" checked={failed} onChange={(e) => { setFailed(e.currentTarget.checked); setBefore(0); }} />Only what did not succeed</label>
        <label class="filter"><span class="hidden">User</span><input data-filter type="search" placeholder="User" value={who} onInput={(e) => { setWho(e.currentTarget.value); setBefore(0); }} /></label>
        <button onClick={() => save("cairn-audit.json", JSON.stringify(list, null, 2))}>Save these</button></div>
      <Trouble error={page.error} />
      <Card flush>
        {page.value && list.length === 0 ? <Empty title="Nothing recorded">Every change through this page, the API or the command line leaves a record here.</Empty> : (
          <div class="wide" tabIndex={0}><table><thead><tr><th>When</th><th>Who</th><th class="hide-small">From</th><th>Action</th><th>What</th><th>Result</th></tr></thead>
            <tbody>{list.map((r) => <tr key={r.number}><td class="nowrap" title={when(r.time)}>{ago(r.time)}</td><td class="break">{r.who || r.access_key}</td><td class="hide-small mono">{r.from}</td><td class="nowrap">{r.action}</td><td class="mono small break">{r.subject}</td><td class="break">{r.result === "ok" ? <Pill state="ok" /> : <span class="small">{r.result}</span>}</td></tr>)}</tbody></table></div>
        )}
        {(before > 0 || page.value?.next) && <div class="pad row">{before > 0 && <button onClick={() => setBefore(0)}>Newest</button>}{page.value?.next && <button onClick={() => setBefore(page.value!.next!)}>Older</button>}</div>}
      </Card>
      <Cli line="cairn audit ls" />
    </div>
  );
}
