"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page");
  const single = data.cases.length === 1;
  const bad = new Set(data.verdicts.filter((v) => v.bad).map((v) => v.name));
  const tone = (verdict) => (verdict === "right" ? "good" : bad.has(verdict) ? "bad" : "quiet");

  // Elements: make("td", {class: "num"}, "text" or elements ...)
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== undefined && value !== false) element.setAttribute(key, value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  };
  const drawing = (text) => {
    const holder = make("div");
    holder.innerHTML = text; // made by the report itself, its labels are escaped
    return holder.firstChild;
  };
  const entry = (value) => (typeof value === "string" ? value : number(value, 5));
  const number = (value, digits = 2) => {
    if (value === undefined || value === null || value === "nan") return "–";
    if (typeof value === "string") return value;
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (value === Infinity) return "inf";
    return size >= 0.01 && size < 10000 ? String(+value.toPrecision(digits + 1)) : value.toExponential(digits - 1);
  };
  const percent = (value) => (value === undefined || value === null ? "–" : `${+(value * 100).toFixed(2)} %`);
  const section = (title, ...content) => page.append(make("section", {}, make("h2", {}, title), ...content));
  const tag = (verdict) => make("span", { class: `tag ${tone(verdict)}` }, verdict);

  // A table that sorts by its headings. columns: {name, value(row), show(row), num, wide, long}
  const table = (columns, rows, { first, descending = false, detail, limit = 200, label } = {}) => {
    let order = first ?? 0;
    let down = descending;
    let shown = limit;
    let current = rows;
    const head = make("tr");
    const body = make("tbody");
    const more = make("button", { type: "button", onclick: () => { shown = Infinity; draw(); } });
    const classes = (column) => [column.num && "num", column.wide && "wide", column.long && "long", column.why && "why"].filter(Boolean).join(" ");
    columns.forEach((column, index) => {
      const sort = () => { down = order === index ? !down : Boolean(column.num); order = index; draw(); };
      head.append(make("th", { class: classes(column), scope: "col" }, make("button", { type: "button", onclick: sort }, column.name)));
    });
    const rank = (value) => (value === null || value === undefined || value === "nan" ? -Infinity : value === "inf" ? Infinity : value);
    const draw = () => {
      const value = columns[order].value;
      const sorted = [...current].sort((a, b) => {
        const [x, y] = [rank(value(a)), rank(value(b))];
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      });
      [...head.children].forEach((cell, index) => {
        if (index === order) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      body.replaceChildren(...sorted.slice(0, shown).map((row) => line(row)));
      more.textContent = `Show all ${sorted.length}`;
      more.hidden = sorted.length <= shown;
    };
    const line = (row) => {
      const cells = columns.map((column) => make("td", { class: classes(column) }, (column.show ?? column.value)(row)));
      if (!detail) return make("tr", {}, cells);
      const element = make("tr", { class: "row", tabindex: "0", "aria-expanded": "false" }, cells);
      const toggle = () => {
        const open = element.getAttribute("aria-expanded") === "true";
        element.setAttribute("aria-expanded", String(!open));
        if (open) element.nextSibling.remove();
        else element.after(make("tr", { class: "detail" }, make("td", { colspan: columns.length }, detail(row))));
      };
      element.addEventListener("click", toggle);
      element.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
      });
      return element;
    };
    draw();
    return {
      element: make("div", { class: "card scroll" }, make("table", { "aria-label": label }, make("thead", {}, head), body), more),
      filter: (keep) => { current = rows.filter(keep); shown = limit; draw(); return current.length; },
    };
  };

  // Bars: [{count, label, kind}] with a name under every few of them.
  const bars = (items, caption) => {
    const [width, height, foot] = [440, 120, 30];
    const top = Math.max(...items.map((item) => item.count), 1);
    const step = width / items.length;
    // Square roots: a single bad element must be seen beside a million good ones.
    const scale = (count) => (count ? Math.max(2, Math.sqrt(count / top) * (height - 14)) : 0);
    const parts = items.map((item, index) => {
      const tall = scale(item.count);
      const text = item.label ? `<text x="${index * step + (index ? 0 : 1)}" y="${height + 13}" text-anchor="${index ? "middle" : "start"}">${item.label}</text>` : "";
      return `<rect class="${item.kind ?? ""}" x="${index * step + 1}" y="${height - tall}" width="${step - 2}" height="${tall}" rx="2"><title>${item.title}: ${item.count}</title></rect>${text}`;
    });
    return drawing(`<svg class="plot" role="img" aria-label="${caption}" viewBox="0 0 ${width} ${height + foot}"><line x1="0" y1="${height + .5}" x2="${width}" y2="${height + .5}"/>${parts.join("")}<text x="0" y="${height + 27}">${caption}</text></svg>`);
  };
  const power = (edge) => `1e${Math.round(Math.log10(edge))}`;
  const histogram = (counts) => {
    const edges = data.edges;
    const items = counts.map((count, index) => {
      if (index === 0) return { count, label: "equal", kind: "equal", title: "equal" };
      const [from, to] = [edges[index - 2], edges[index - 1]];
      const title = from === undefined ? `below ${power(to)}` : to === undefined ? `above ${power(from)}` : `${number(from)} to ${number(to)}`;
      const label = from !== undefined && index > 2 && (index - 2) % 4 === 0 ? power(from) : "";
      return { count, label, kind: to === undefined || from >= 0.9 ? "over" : "", title };
    });
    return bars(items, "elements by |difference| / RMS of the output (heights: square root)");
  };

  const facts = (pairs) => make("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const output = (result) => make("div", { class: "card pad" },
    make("div", {}, make("b", { class: "mono" }, result.name), " ", make("span", { class: `tag ${result.ok ? "good" : "bad"}` }, result.ok ? "ok" : "off")),
    make("div", { class: "soft" }, `${result.dtype} [${result.shape.join(", ")}]`),
    result.why ? make("p", { class: "bad" }, result.why) : null,
    facts([
      ["relative RMS", number(result.rel_rms)], ["tolerance", number(result.tolerance)],
      ["max abs", number(result.max_abs)], ["mean abs", number(result.mean_abs)],
      ["max relative", number(result.max_rel)], ["mean relative", number(result.mean_rel)],
      ["SQNR", typeof result.sqnr_db === "number" ? `${result.sqnr_db.toFixed(1)} dB` : number(result.sqnr_db)],
      ["cosine", typeof result.cosine === "number" ? result.cosine.toFixed(6) : "–"],
      ["top-1 / top-5", `${percent(result.top1)} / ${percent(result.top5)}`], ["NaN/inf differ", String(result.nan_mismatch)],
    ]),
    make("p", { class: "faint" }, `Tolerance: ${result.tolerance_source}`),
    (result.groups ?? []).length ? make("div", { class: "scroll" }, make("table", { class: "worst groups" },
      make("thead", {}, make("tr", {}, ["channels of other sizes", "values up to", "rel. RMS", "tolerance", ""].map((name, i) => make("th", { class: i && i < 4 ? "num" : "" }, name)))),
      make("tbody", {}, [...result.groups].sort((a, b) => b.peak - a.peak).map((group) => make("tr", {},
        make("td", {}, `${group.indices} of axis ${group.axis}`), make("td", { class: "num" }, number(group.peak)),
        make("td", { class: "num" }, number(group.rel_rms)), make("td", { class: "num" }, number(group.tolerance)),
        make("td", {}, make("span", { class: `tag ${group.ok ? "good" : "bad"}` }, group.ok ? "ok" : "off"), group.note ? ` ${group.note}` : "")))))) : null,
    result.histogram.length ? histogram(result.histogram) : null,
    result.worst.length ? make("div", { class: "scroll" }, make("table", { class: "worst" },
      make("thead", {}, make("tr", {}, ["largest differences at", "CPU", "ours"].map((name, i) => make("th", { class: i ? "num" : "" }, name)))),
      make("tbody", {}, result.worst.map((w) => make("tr", {},
        make("td", {}, `sample ${w.sample} [${w.index.join(", ")}]`),
        make("td", { class: "num" }, entry(w.expected)), make("td", { class: "num" }, entry(w.actual))))))) : null,
  );
  const reasons = (result) => Object.entries(result.cpu_reasons ?? {}).sort((a, b) => b[1] - a[1])
    .map(([reason, count]) => make("p", { class: "soft" }, `CPU: ${count} × ${reason}`));
  const detail = (result) => make("div", {},
    result.message ? make("p", { class: tone(result.verdict) }, result.message) : null,
    reasons(result), make("div", { class: "outputs" }, (result.outputs ?? []).map(output)),
    result.picture ? [make("h3", {}, "Placement"), picture(result)] : null);

  // --- header, banner, tiles
  const counts = {};
  for (const row of data.cases) counts[row.verdict] = (counts[row.verdict] ?? 0) + 1;
  const failing = data.cases.filter((row) => bad.has(row.verdict)).length;
  const onNpu = data.cases.filter((row) => row.npu_nodes > 0).length;
  page.append(make("header", {}, make("h1", {}, data.title), make("div", { class: "soft" }, data.setting)));
  const only = data.cases[0];
  const idle = single && only.verdict === "right" && !only.npu_nodes;
  const mood = failing ? "bad" : idle ? "mild" : "good";
  const headline = single
    ? failing ? only.message || only.verdict : idle ? "Right, but nothing ran on the NPU path" : "Agrees with CPU onnxruntime"
    : failing ? `${failing} of ${data.cases.length} cases are bad` : "Nothing wrong, nothing crashed";
  page.append(make("div", { class: "card banner" }, make("div", { class: `sign ${mood}`, "aria-hidden": "true" }, failing ? "✕" : idle ? "!" : "✓"),
    make("div", {}, make("b", {}, headline), make("div", { class: "soft" },
      `${data.cases.length} ${single ? "model" : "cases"} in ${Math.round(data.seconds)} s`, data.difference ? ` · against ${data.difference.name}: ${data.difference.said}` : ""),
      only?.cure ? make("div", { class: "cure" }, "Cured when these stay on the CPU: ", make("code", {}, only.cure.join("  "))) : null)));
  const tile = (value, said, kind = "") => make("div", { class: "card tile" }, make("b", { class: kind }, value), make("span", {}, said));
  if (single) {
    const worst = only.rel_rms;
    page.append(make("div", { class: "tiles" },
      tile(`${only.npu_nodes ?? 0} / ${only.nodes ?? 0}`, "nodes on the NPU path"), tile(number(worst), "worst relative RMS"),
      tile(String(only.samples ?? 0), "samples"),
      only.accuracy ? tile(percent(only.accuracy.top1), `top-1 (CPU ${percent(only.accuracy.cpu_top1)})`) : null,
      only.accuracy?.top5 !== undefined ? tile(percent(only.accuracy.top5), `top-5 (CPU ${percent(only.accuracy.cpu_top5)})`) : null));
  } else {
    const used = data.verdicts.filter((v) => counts[v.name] || ["right", "wrong", "crashed", "unsupported"].includes(v.name));
    page.append(make("div", { class: "tiles" }, used.map((v) => {
      const box = tile(String(counts[v.name] ?? 0), v.name, counts[v.name] ? tone(v.name) : "faint");
      box.title = v.meaning;
      return box;
    }), tile(String(onNpu), "with NPU nodes")));
    page.append(make("div", { class: "bar", role: "img", "aria-label": "cases by verdict" }, data.verdicts.filter((v) => counts[v.name]).map((v) =>
      make("i", { class: tone(v.name), style: `flex:${counts[v.name]}`, title: `${v.name}: ${counts[v.name]}` }))));
  }

  // --- what changed
  if (data.difference) {
    const rows = ["worse", "better", "other"].flatMap((kind) => data.difference[kind].map((change) => ({ kind: kind === "other" ? "changed" : kind, ...change })));
    for (const kind of ["new", "gone"]) rows.push(...data.difference[kind].map((name) => ({ kind, case: name, what: "" })));
    section(`Since ${data.difference.name}`, rows.length ? table([
      { name: "change", value: (r) => r.kind, show: (r) => make("span", { class: `tag ${{ worse: "bad", better: "good" }[r.kind] ?? "quiet"}` }, r.kind) },
      { name: "case", value: (r) => r.case, show: (r) => make("code", {}, r.case), long: true },
      { name: "what", value: (r) => r.what, why: true },
    ], rows, { first: 0, descending: true, limit: 30, label: "changes" }).element : make("div", { class: "card pad" }, "No change."));
  }

  // --- one model in full
  const toTheError = (folded) => {
    const [box, spot] = [folded.querySelector(".picture"), folded.querySelector(".bad")?.getBBox()];
    if (spot) box.scrollTo(spot.x - box.clientWidth / 2, spot.y - box.clientHeight / 2);
  };
  const picture = (result) => make("div", { class: "card pad" }, make("div", { class: "legend" },
    make("span", {}, make("i", { class: "npu" }), "NPU path"), make("span", {}, make("i", { class: "cpu" }), "CPU"),
    make("span", {}, make("i", { class: "cross" }), "crosses between them"),
    result.layers?.some((row) => row.advice) ? make("span", {}, make("i", { class: "ill" }), "the error begins here") : null),
    result.overview ? make("div", { class: "picture" }, drawing(result.overview)) : null,
    result.overview && result.picture
      ? make("details", { ontoggle: (event) => toTheError(event.target) },
        make("summary", {}, `Every node (${result.nodes})`), make("div", { class: "picture" }, drawing(result.picture)))
      : result.picture ? make("div", { class: "picture" }, drawing(result.picture)) : null);
  if (single) {
    section("Outputs", make("div", { class: "outputs" }, (only.outputs ?? []).map(output)));
    if (only.layers) {
      const size = (row) => (row.nan_mismatch ? Infinity : row.own); // none: not measured alone, which comes last
      const vendor = only.layers.some((row) => row.vendor_own != null);
      const scale = (value) => (value === Infinity || value === "inf" ? 100 : value > 0 ? Math.max(1, Math.min(100, (Math.log10(value) + 8) * 12.5)) : 0);
      section("Layers", make("p", { class: "soft" }, `Each node on the NPU path, alone on exact inputs and with everything before it. Bars are logarithmic, 1e-8 to 1.${vendor ? " Vendor: rknn-toolkit2's accuracy analysis on its simulator, by its own layers; –: part of another." : ""}`), table([
        { name: "node", value: (r) => r.node, show: (r) => make("code", { title: r.node }, r.node.length > 40 ? `…${r.node.slice(-39)}` : r.node), long: true }, { name: "op", value: (r) => r.op_type, wide: true },
        { name: "alone", value: (r) => size(r), show: (r) => (r.nan_mismatch ? `${r.nan_mismatch} NaN/inf` : number(r.own)), num: true },
        { name: "", value: (r) => size(r), show: (r) => make("div", { style: "width:110px" }, make("div", { class: `layer ${r.advice ? "bad" : ""}`, style: `width:${scale(size(r))}%` })), wide: true },
        { name: "entire", value: (r) => r.entire, show: (r) => number(r.entire), num: true, wide: true },
        ...(vendor ? [
          { name: "vendor alone", value: (r) => r.vendor_own ?? -1, show: (r) => number(r.vendor_own), num: true, wide: true },
          { name: "vendor entire", value: (r) => r.vendor_entire ?? -1, show: (r) => number(r.vendor_entire), num: true, wide: true },
        ] : []),
        { name: "peak", value: (r) => r.peak, show: (r) => number(r.peak), num: true, wide: true },
        { name: "advice", value: (r) => r.advice ?? "", why: true },
      ], only.layers, { first: 2, descending: true, limit: 25, label: "layers" }).element);
    }
    if (only.picture || only.overview) section("Placement", reasons(only), picture(only));
    else if (only.cpu_reasons) section("Placement", reasons(only));
  }

  // --- distribution of errors over cases
  const measured = data.cases.filter((row) => row.npu_nodes > 0 && typeof row.rel_rms === "number");
  if (!single && measured.length) {
    const counts = new Array(data.edges.length + 2).fill(0);
    for (const row of measured) counts[row.rel_rms === 0 ? 0 : 1 + data.edges.filter((edge) => edge <= row.rel_rms).length] += 1;
    section("Errors", make("div", { class: "card pad" }, make("p", { class: "soft" }, `Worst relative RMS of each of the ${measured.length} cases with nodes on the NPU path.`), (() => {
      const plot = histogram(counts);
      plot.lastChild.textContent = "cases by relative RMS (heights: square root)";
      return plot;
    })()));
  }

  // --- ops
  if (data.ops.length) {
    const columns = single ? [
      { name: "op", value: (r) => r.op, show: (r) => make("code", {}, r.op) }, { name: "nodes", value: (r) => r.cases, num: true },
      { name: "on the NPU path", value: (r) => r.npu, num: true }, { name: "on the CPU", value: (r) => r.cases - r.npu, num: true },
    ] : [
      { name: "op", value: (r) => r.op, show: (r) => make("code", {}, r.op), long: true }, { name: "cases", value: (r) => r.cases, num: true },
      { name: "right", value: (r) => r.right, num: true }, { name: "bad", value: (r) => r.bad, show: (r) => make("span", { class: r.bad ? "bad" : "faint" }, String(r.bad)), num: true },
      { name: "not compared", value: (r) => r.other, num: true, wide: true }, { name: "with NPU nodes", value: (r) => r.npu, num: true, wide: true },
      { name: "worst rel. RMS", value: (r) => r.rel_rms, show: (r) => number(r.rel_rms), num: true },
    ];
    const ops = table(columns, data.ops, { first: single ? 1 : 0, descending: single, limit: 30, label: "ops" });
    const search = make("input", { type: "search", placeholder: "Filter ops", "aria-label": "Filter ops", oninput: () => ops.filter((row) => row.op.toLowerCase().includes(search.value.toLowerCase())) });
    section("Ops", single ? "" : make("div", { class: "tools" }, search), ops.element);
  }

  // --- cases
  if (!single) {
    const cases = table([
      { name: "case", value: (r) => r.case, show: (r) => make("code", {}, r.case), long: true },
      { name: "verdict", value: (r) => data.verdicts.findIndex((v) => v.name === r.verdict), show: (r) => tag(r.verdict) },
      { name: "NPU nodes", value: (r) => (r.npu_nodes ?? 0) / (r.nodes || 1), show: (r) => (r.nodes ? `${r.npu_nodes ?? 0} / ${r.nodes}` : "–"), num: true, wide: true },
      { name: "rel. RMS", value: (r) => r.rel_rms, show: (r) => number(r.rel_rms), num: true },
      { name: "seconds", value: (r) => r.seconds ?? 0, show: (r) => (r.seconds ?? 0).toFixed(2), num: true, wide: true },
      { name: "why", value: (r) => r.message ?? "", show: (r) => make("span", { class: "clamp" }, r.message || Object.keys(r.cpu_reasons ?? {}).join("; ")), why: true, wide: true },
    ], data.cases, { first: 0, detail, limit: 100, label: "cases" });
    const search = make("input", { type: "search", placeholder: "Filter by name, op or reason", "aria-label": "Filter cases", oninput: () => apply() });
    const verdict = make("select", { "aria-label": "Verdict", onchange: () => apply() }, make("option", { value: "" }, "all verdicts"),
      failing ? make("option", { value: "bad" }, `bad (${failing})`) : null, data.verdicts.filter((v) => counts[v.name]).map((v) => make("option", { value: v.name }, `${v.name} (${counts[v.name]})`)));
    const npu = make("input", { type: "checkbox", onchange: () => apply() });
    const found = make("span", { class: "faint", id: "found" });
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const kept = cases.filter((row) => {
        const text = `${row.case} ${Object.keys(row.ops ?? {}).join(" ")} ${row.message ?? ""} ${Object.keys(row.cpu_reasons ?? {}).join(" ")}`.toLowerCase();
        return words.every((word) => text.includes(word)) && (!npu.checked || row.npu_nodes > 0)
          && (!verdict.value || row.verdict === verdict.value || (verdict.value === "bad" && bad.has(row.verdict)));
      });
      found.textContent = `${kept} of ${data.cases.length}`;
    };
    section("Cases", make("div", { class: "tools" }, search, verdict, make("label", {}, npu, "NPU nodes only"), found), cases.element);
    apply();
  }

  // --- versions
  const versions = Object.entries(data.head.versions).map(([name, value]) => [name, value ?? "not installed"]);
  section("Versions", make("div", { class: "card pad" }, facts([...versions, ["machine", data.head.machine], ["flow", data.head.flow], ["cost rule", data.head.min_gain ? `min_gain ${data.head.min_gain}` : "off"]])));
})();
