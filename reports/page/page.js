'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // Okabe and Ito's colours first: told apart by everybody.
  const palette = ['#8c96a3', '#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00',
    '#b8a600', '#7a5fc0', '#3f8f8f', '#a0522d', '#6b7f2a', '#c05080'];
  const colour = (band) => palette[band % palette.length];
  const phaseNames = {f: 'forward', r: 'recompute', b: 'backward', o: 'optimizer', m: 'moved'};
  const phaseColours = {f: '#0072b2', r: '#e69f00', b: '#cc79a7', o: '#009e73', m: '#8c96a3'};

  const significant = (value) => {
    const size = Math.abs(value);
    return value.toFixed(Number.isInteger(value) || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
  };
  const bytesText = (bytes) => {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    while (Math.abs(bytes) >= 1023.5 && unit + 1 < units.length) { bytes /= 1024; ++unit; }
    return `${significant(bytes)} ${units[unit]}`;
  };
  const secondsText = (seconds) => {
    if (seconds === 0) return '0 s';
    const size = Math.abs(seconds);
    if (size >= 0.9995) return `${significant(seconds)} s`;
    return size >= 0.9995e-3 ? `${significant(seconds * 1e3)} ms` : `${significant(seconds * 1e6)} us`;
  };
  // Round numbers of bytes for an axis: powers of two times 1, 2, 5, 10 ... of the unit.
  const bytesStep = (span) => {
    const unit = Math.pow(1024, Math.max(0, Math.floor(Math.log(Math.max(span, 1)) / Math.log(1024))));
    const rough = span / unit / 6;
    const power = Math.pow(10, Math.floor(Math.log10(Math.max(rough, 1e-9))));
    return unit * power * ([1, 2, 5, 10].find((m) => m * power >= rough) || 10);
  };

  // Two base64 digits a level, 0 to 4095 of the row's scale.
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  const value = new Map([...digits].map((c, i) => [c, i]));
  const unpack = (text, scale) => {
    const levels = [];
    for (let i = 0; i + 1 < text.length; i += 2) {
      levels.push((value.get(text[i]) * 64 + value.get(text[i + 1])) / 4095 * scale);
    }
    return levels;
  };

  let chosen = data.first;
  let view = 0;
  let charts = {};
  let order = {column: null, down: false};

  // --- head -------------------------------------------------------------------------------------
  document.title = `Tidemark: ${data.model}`;
  $('about').textContent = data.about;
  data.headline.forEach(([text, strong]) => $('headline').append(make(strong ? 'b' : 'span', text)));
  $('reason').textContent = data.reason;
  for (const tile of data.tiles) {
    const button = make('button', undefined, `tile ${tile.kind}`);
    button.type = 'button';
    const row = data.rows[tile.row];
    button.append(make('small', tile.title), make('b', row.name), make('span', tile.text));
    button.addEventListener('click', () => choose(tile.row));
    $('tiles').append(button);
  }

  // --- table ------------------------------------------------------------------------------------
  const head = make('tr');
  data.columns.forEach((column, c) => {
    const cell = make('th', undefined, column.number ? 'number' : '');
    cell.scope = 'col';
    const button = make('button', column.title);
    button.type = 'button';
    button.addEventListener('click', () => {
      order = {column: c, down: order.column === c && !order.down};
      fillTable();
    });
    cell.append(button);
    head.append(cell);
  });
  document.querySelector('#rows thead').append(head);

  const compare = (a, b) => {
    const x = a.keys[order.column];
    const y = b.keys[order.column];
    if (x === y) return a.number - b.number;
    if (x === null || x === undefined) return 1;   // what is not known stays below
    if (y === null || y === undefined) return -1;
    const sign = typeof x === 'number' ? x - y : String(x).localeCompare(String(y));
    return order.down ? -sign : sign;
  };

  function fillTable() {
    [...head.children].forEach((cell, c) => {
      if (c === order.column) cell.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
      else cell.removeAttribute('aria-sort');
    });
    const rows = [...data.rows];
    if (order.column !== null) rows.sort(compare);
    const body = document.querySelector('#rows tbody');
    body.replaceChildren(...rows.map((row) => {
      const line = make('tr');
      line.tabIndex = 0;
      line.dataset.row = row.number;
      if (row.status) line.classList.add('refused');
      if (row.fits === false) line.classList.add('over');
      row.cells.forEach((text, c) => {
        const cell = make('td', text, data.columns[c].number ? 'number' : '');
        if (c === 1) {
          if (row.number === data.written) cell.append(make('span', 'recommended', 'badge'));
          if (row.yours) cell.append(make('span', 'yours', 'badge yours'));
        }
        line.append(cell);
      });
      if (row.status) {
        const cell = make('td', row.status, 'status');
        cell.colSpan = data.columns.length - row.cells.length;
        line.append(cell);
      }
      line.addEventListener('click', () => choose(row.number));
      line.addEventListener('keydown', (event) => {
        if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); choose(row.number); }
      });
      return line;
    }));
    markChosen();
  }

  function markChosen() {
    document.querySelectorAll('#rows tbody tr').forEach((line) => {
      line.classList.toggle('chosen', Number(line.dataset.row) === chosen);
    });
  }

  // --- charts -----------------------------------------------------------------------------------
  const draw = (id, configuration) => {
    if (charts[id]) charts[id].destroy();
    charts[id] = new Chart($(id), configuration);
  };

  const axis = (title, extra) => ({
    type: 'linear',
    grid: {color: css('--grid'), borderColor: css('--line')},
    title: {display: !!title, text: title, color: css('--soft')},
    ...extra,
    ticks: {color: css('--soft'), maxRotation: 0, ...(extra && extra.ticks)},
  });

  const baseOptions = () => ({
    responsive: true, maintainAspectRatio: false, animation: false,
    plugins: {
      legend: {labels: {color: css('--ink'), boxWidth: 12, boxHeight: 12, usePointStyle: true}},
      tooltip: {backgroundColor: css('--ink'), titleColor: css('--card'), bodyColor: css('--card'),
                footerColor: css('--card')},
    },
  });

  function drawScatter() {
    const placed = data.rows.filter((row) => row.peak !== null && row.seconds !== null);
    const points = (rows) => rows.map((row) => ({x: row.seconds, y: row.peak, row: row.number}));
    const ran = placed.filter((row) => !row.status);
    const front = ran.filter((row) => row.front).sort((a, b) => a.seconds - b.seconds);
    const written = ran.filter((row) => row.number === data.written);
    const yours = placed.filter((row) => row.yours);
    const now = placed.filter((row) => row.number === chosen);
    const datasets = [];
    const add = (label, rows, style) => {
      if (rows.length) datasets.push({label, data: points(rows), ...style});
    };
    add('chosen', now, {pointStyle: 'circle', radius: 13, hoverRadius: 13, borderWidth: 2,
                        borderColor: css('--ink'), backgroundColor: 'transparent'});
    add('recommended', written, {pointStyle: 'star', radius: 9, hoverRadius: 10, borderWidth: 2.5,
                                 borderColor: css('--accent'), backgroundColor: css('--accent')});
    add('your present setting', yours, {pointStyle: 'rectRot', radius: 9, hoverRadius: 10, borderWidth: 2,
                           borderColor: css('--yours'), backgroundColor: 'transparent'});
    add('fits', ran.filter((row) => row.fits !== false),
        {pointStyle: 'circle', radius: 4.5, hoverRadius: 6, backgroundColor: css('--accent'),
         borderColor: css('--accent')});
    if (data.budget === null && datasets.length) datasets[datasets.length - 1].label = 'setting';
    add('over the budget', ran.filter((row) => row.fits === false),
        {pointStyle: 'circle', radius: 4.5, hoverRadius: 6, backgroundColor: 'transparent',
         borderColor: css('--grey')});
    add('out of memory (predicted)', placed.filter((row) => row.status),
        {pointStyle: 'crossRot', radius: 6, hoverRadius: 7, borderWidth: 2, borderColor: css('--grey')});
    datasets.push({label: 'not beaten in both', data: points(front), type: 'line', stepped: 'before',
                   borderColor: css('--accent'), borderWidth: 1.5, borderDash: [2, 3], pointRadius: 0,
                   pointHitRadius: 0, pointStyle: 'line'});
    const times = placed.map((row) => row.seconds);
    if (data.budget !== null && times.length) {
      const low = Math.min(...times), high = Math.max(...times), more = (high - low || high) * 0.05;
      datasets.push({label: `budget ${bytesText(data.budget)}`, type: 'line', borderColor: css('--warn'),
                     borderDash: [7, 5], borderWidth: 1.5, pointRadius: 0, pointHitRadius: 0, pointStyle: 'line',
                     data: [{x: low - more, y: data.budget}, {x: high + more, y: data.budget}]});
    }
    const peaks = placed.map((row) => row.peak).concat(data.budget === null ? [] : [data.budget]);
    const options = baseOptions();
    options.scales = {
      x: axis('step time', {grace: '4%', ticks: {callback: secondsText, maxTicksLimit: innerWidth < 700 ? 5 : 9}}),
      y: axis(data.peakName, {beginAtZero: true, grace: '6%',
                              ticks: {callback: bytesText, stepSize: bytesStep(Math.max(1, ...peaks))}}),
    };
    options.onClick = (event, found) => {
      const hit = found.map((item) => datasets[item.datasetIndex].data[item.index].row)
                      .find((row) => row !== undefined);
      if (hit !== undefined) choose(hit);
    };
    options.plugins.tooltip.callbacks = {
      label: (item) => item.raw.row === undefined ? item.dataset.label
        : `${data.rows[item.raw.row].name}: ${bytesText(item.raw.y)}, ${secondsText(item.raw.x)}`,
    };
    options.plugins.tooltip.filter = (item, index, all) =>
      item.raw.row === undefined || all.findIndex((other) => other.raw.row === item.raw.row) === index;
    draw('scatter', {type: 'scatter', data: {datasets}, options});
  }

  // The peak, pinned and named, and the phases of the step as a strip above the levels.
  const pin = (detail, row) => ({
    id: 'pin',
    afterDatasetsDraw(chart) {
      const {ctx, chartArea: area, scales} = chart;
      ctx.save();
      for (let i = 0; i < detail.x.length; ++i) {
        const from = scales.x.getPixelForValue(detail.x[i]);
        const to = i + 1 < detail.x.length ? scales.x.getPixelForValue(detail.x[i + 1]) : area.right;
        ctx.fillStyle = phaseColours[detail.phases[i]];
        ctx.fillRect(from, area.top - 7, Math.max(to - from, 0.6), 5);
      }
      const x = scales.x.getPixelForValue(detail.x[detail.peak]);
      const y = scales.y.getPixelForValue(detail.peakBytes);
      ctx.strokeStyle = css('--warn');
      ctx.fillStyle = css('--warn');
      ctx.setLineDash([4, 3]);
      ctx.beginPath();
      ctx.moveTo(area.left, y);
      ctx.lineTo(area.right, y);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.arc(x, y, 4.5, 0, 7);
      ctx.fill();
      ctx.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
      const lines = [`peak ${bytesText(detail.peakBytes)} live`, row.peakOperator].filter(Boolean);
      const fit = (text) => {
        let short = text;
        while (ctx.measureText(short).width > area.width * 0.8 && short.length > 8) short = short.slice(0, -1);
        return short === text ? text : `${short}\u2026`;
      };
      const shown = lines.map(fit);
      const width = Math.max(...shown.map((line) => ctx.measureText(line).width));
      const left = Math.min(Math.max(x + 9, area.left + 4), area.right - width - 10);
      ctx.fillStyle = css('--card');
      ctx.globalAlpha = 0.86;
      ctx.fillRect(left - 4, y - 12 - 15 * shown.length, width + 8, 15 * shown.length + 4);
      ctx.globalAlpha = 1;
      ctx.fillStyle = css('--warn');
      shown.forEach((line, i) => ctx.fillText(line, left, y - 12 - 15 * (shown.length - 1 - i)));
      ctx.restore();
    },
  });

  function drawTimeline(row) {
    const detail = row.detail;
    $('detail').hidden = !detail;
    $('no-detail').hidden = !!detail || !!row.status;
    if (!detail) {
      if (charts.timeline) charts.timeline.destroy();
      delete charts.timeline;
      return;
    }
    const datasets = [];
    const at = (levels) => levels.map((y, i) => ({x: detail.x[i], y}));
    data.views[view].bands.forEach((band, b) => {
      const text = detail.bands[view][b];
      if (text === null) return;
      const levels = unpack(text, detail.peakBytes);
      levels[detail.peak] = detail.peakBands[view][b];
      datasets.push({label: band, data: at(levels), stack: 'bands', fill: datasets.length ? '-1' : 'origin',
                     backgroundColor: `${colour(b)}cc`, borderColor: colour(b), borderWidth: 0,
                     pointRadius: 0, pointStyle: 'rect', order: 2});
    });
    const lines = {
      measured: {borderColor: css('--ink'), borderWidth: 1.4, borderDash: [4, 3]},
      allocated: {borderColor: css('--accent'), borderWidth: 1.2},
      reserved: {borderColor: css('--warn'), borderWidth: 1.4},
      'measured reserved': {borderColor: css('--ink'), borderWidth: 1.2, borderDash: [1, 3]},
      'on the host': {borderColor: css('--yours'), borderWidth: 1.6},
    };
    for (const [label, text, scale] of detail.lines) {
      datasets.push({label, data: at(unpack(text, scale)), stack: label, pointRadius: 0, pointStyle: 'line',
                     fill: false, order: 1, ...lines[label]});
    }
    const highest = Math.max(detail.peakBytes, ...detail.lines.map(([, , scale]) => scale));
    const options = baseOptions();
    options.layout = {padding: {top: 8}};
    options.interaction = {mode: 'index', intersect: false};
    options.scales = {
      x: axis(detail.timed ? 'time in the step' : 'operators of the step',
              {min: detail.x[0], max: detail.x[detail.x.length - 1],
               ticks: {callback: detail.timed ? secondsText : (v) => v, maxTicksLimit: innerWidth < 700 ? 5 : 10}}),
      y: axis('bytes', {stacked: true, min: 0, suggestedMax: highest * 1.16,
                              ticks: {callback: bytesText, stepSize: bytesStep(highest)}}),
    };
    options.plugins.tooltip.filter = (item) => item.raw.y > 0;
    options.plugins.tooltip.itemSort = (a, b) => b.raw.y - a.raw.y;
    options.plugins.tooltip.callbacks = {
      title: (items) => items.length ? data.operators[detail.operators[items[0].dataIndex]] || 'between operators' : '',
      label: (item) => `${item.dataset.label}: ${bytesText(item.raw.y)}`,
      footer: (items) => items.length ? `${phaseNames[detail.phases[items[0].dataIndex]]}, ${
        detail.timed ? secondsText(detail.x[items[0].dataIndex]) : `step ${detail.x[items[0].dataIndex]}`}` : '',
    };
    draw('timeline', {type: 'line', data: {datasets}, options, plugins: [pin(detail, row)]});
    const present = [...new Set(detail.phases)];
    $('phases').replaceChildren(...present.flatMap((phase) => {
      const key = make('span', undefined, 'key');
      key.style.background = phaseColours[phase];
      return [key, document.createTextNode(phaseNames[phase])];
    }));
  }

  function drawBlocks(row) {
    const detail = row.detail;
    const any = detail && detail.timed && (detail.recompute.some((s) => s > 0) || detail.transfer.some((s) => s > 0));
    $('by-block').hidden = !any;
    if (!any) {
      if (charts.blocks) charts.blocks.destroy();
      delete charts.blocks;
      return;
    }
    const options = baseOptions();
    options.scales = {
      x: {...axis('', {}), type: 'category', stacked: true},
      y: axis('', {stacked: true, beginAtZero: true, ticks: {callback: secondsText, maxTicksLimit: 6}}),
    };
    options.plugins.tooltip.callbacks = {label: (item) => `${item.dataset.label}: ${secondsText(item.raw)}`};
    draw('blocks', {type: 'bar', options, data: {labels: data.blocks, datasets: [
      {label: 'recomputed', data: detail.recompute, backgroundColor: phaseColours.r, pointStyle: 'rect'},
      {label: 'moved', data: detail.transfer, backgroundColor: css('--yours'), pointStyle: 'rect'},
    ]}});
  }

  function fillBreakdown(row) {
    const largest = Math.max(1, ...row.breakdown.map(([, bytes]) => bytes));
    const lines = row.breakdown.map(([title, bytes, band]) => {
      const line = make('tr');
      const bar = make('i');
      bar.style.width = `${100 * bytes / largest}%`;
      bar.style.background = colour(band);
      const cell = make('td');
      cell.append(bar);
      line.append(make('td', title), make('td', bytesText(bytes)), cell);
      return line;
    });
    const sum = make('tr', undefined, 'sum');
    sum.append(make('td', 'peak (live)'), make('td', bytesText(row.breakdown.reduce((s, [, b]) => s + b, 0))), make('td'));
    $('breakdown').replaceChildren(...(row.breakdown.length ? [...lines, sum] : []));
  }

  function choose(number) {
    chosen = number;
    const row = data.rows[number];
    $('chosen-name').textContent = row.name;
    $('chosen-peak').textContent = row.status || row.summary;
    $('chosen').dataset.row = number;
    $('chosen-notes').replaceChildren(...row.notes.map((note) => make('li', note)));
    fillBreakdown(row);
    drawTimeline(row);
    drawBlocks(row);
    drawScatter();
    markChosen();
  }

  // --- switches ---------------------------------------------------------------------------------
  data.views.forEach((each, v) => {
    const button = make('button', each.name);
    button.type = 'button';
    button.setAttribute('aria-pressed', String(v === view));
    button.addEventListener('click', () => {
      view = v;
      [...$('views').children].forEach((other, o) => other.setAttribute('aria-pressed', String(o === v)));
      drawTimeline(data.rows[chosen]);
    });
    $('views').append(button);
  });

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    if (data.rows.length) choose(chosen);
  }
  const dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', () => setTheme(dark.matches ? 'dark' : 'light'));
  $('theme').addEventListener('click', () => {
    setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
  });

  // --- foot -------------------------------------------------------------------------------------
  $('legend').textContent = data.legend.join(' \u00b7 ');
  $('notes-section').hidden = data.notes.length === 0;
  data.notes.forEach(([note, settings]) => {
    const item = make('li', note);
    if (settings) item.append(' ', make('small', `[${settings}]`));
    $('notes').append(item);
  });
  data.provenance.forEach(([term, text]) => $('provenance').append(make('dt', term), make('dd', text)));

  $('chosen').hidden = data.rows.length === 0;
  fillTable();
  setTheme(dark.matches ? 'dark' : 'light');
  addEventListener('resize', () => { if (data.rows.length) drawScatter(); });
  document.documentElement.dataset.ready = 'yes';
})();
