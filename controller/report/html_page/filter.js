'use strict';
// Filters the rows that the page carries and draws one page of them. Texts are set as text, never as HTML.
(() => {
  const { shown, texts, rows } = JSON.parse(document.getElementById('rows').textContent);
  const FLEET = 1, POLICY = 2, STATE = 3, MEANING = 4, REASON = 5, DUE = 6, WHY = 7, SITE = 8;
  const element = (id) => document.getElementById(id);
  const body = element('devices').tBodies[0];
  const words = element('words');
  const choices = [['state', STATE], ['reason', REASON], ['policy', POLICY], ['site', SITE], ['fleet', FLEET]]
    .filter(([id]) => element(id));
  const labels = [...element('devices').tHead.rows[0].cells].map((head) => head.textContent);
  const columns = [...(element('fleet') ? [FLEET] : []), ...(element('site') ? [SITE] : []), POLICY, STATE, REASON, DUE, WHY];
  const lower = texts.map((text) => text.toLowerCase());
  let found = rows;
  let start = 0;
  let waiting = 0;

  for (const [id, column] of choices) {
    const numbers = [...new Set(rows.map((row) => row[column]))];
    if (column === SITE) numbers.sort((one, other) => texts[one].localeCompare(texts[other], 'en', { numeric: true }));
    for (const number of numbers) element(id).add(new Option(texts[number], number));
  }

  function matches(row, wanted, chosen) {
    for (const [column, number] of chosen) {
      if (row[column] !== number) return false;
    }
    return wanted.every(([word, hits]) =>
      columns.some((column) => hits[row[column]]) || row[0].toLowerCase().includes(word));
  }

  function filter() {
    clearTimeout(waiting);
    // Each word is looked up once among the texts, so that a row costs a few array reads.
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean)
      .map((word) => [word, lower.map((text) => text.includes(word))]);
    const chosen = choices.filter(([id]) => element(id).value !== '')
      .map(([id, column]) => [column, Number(element(id).value)]);
    found = wanted.length || chosen.length ? rows.filter((row) => matches(row, wanted, chosen)) : rows;
    start = 0;
    draw();
    const link = new URLSearchParams();
    if (words.value) link.set('words', words.value);
    for (const [id] of choices) {
      const field = element(id);
      if (field.value !== '') link.set(id, field.selectedOptions[0].text);
    }
    element('link').href = `#${link}`;
  }

  // A link of this page, or one that somebody sent: a choice by its words, which stay the same from page to page.
  function follow() {
    const link = new URLSearchParams(location.hash.slice(1));
    if (![...link.keys()].some((key) => key === 'words' || choices.some(([id]) => id === key))) return;
    words.value = link.get('words') ?? '';
    for (const [id] of choices) {
      const text = link.get(id);
      if (text && ![...element(id).options].some((option) => option.text === text)) {
        element(id).add(new Option(text, -1)); // of another report: no row of this one matches
      }
      element(id).value = [...element(id).options].find((option) => option.text === text)?.value ?? '';
    }
    filter();
    element('devices-heading').scrollIntoView({ block: 'start' });
  }

  function cell(tag, text, name) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function drawn(row) {
    const line = document.createElement('tr');
    const head = cell('th', row[0]);
    head.scope = 'row';
    line.append(head);
    columns.forEach((column, number) => {
      const names = { [STATE]: `keep ${texts[row[MEANING]]}`, [DUE]: 'due', [WHY]: 'wide' };
      const made = cell('td', texts[row[column]], names[column] ?? 'keep');
      made.dataset.label = labels[number + 1];
      line.append(made);
    });
    return line;
  }

  function draw() {
    const page = found.slice(start, start + shown);
    body.replaceChildren(...page.map(drawn));
    const number = (value) => value.toLocaleString('en');
    element('count').textContent = page.length
      ? `${number(start + 1)} to ${number(start + page.length)} of ${number(found.length)} that match`
      : 'no row matches';
    element('pages').hidden = found.length <= shown;
    element('previous').disabled = start === 0;
    element('next').disabled = start + shown >= found.length;
  }

  function turn(by) {
    start = Math.max(0, start + by);
    draw();
    // A button that is off cannot keep the focus: the keyboard goes on at the other one.
    if (element('next').disabled && by > 0) element('previous').focus();
    if (element('previous').disabled && by < 0) element('next').focus();
    element('devices').scrollIntoView({ block: 'start' });
  }

  words.addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 80);
  });
  for (const [id] of choices) element(id).addEventListener('change', filter);
  element('filter').addEventListener('submit', (event) => {
    event.preventDefault();
    filter();
  });
  element('previous').addEventListener('click', () => turn(-shown));
  element('next').addEventListener('click', () => turn(shown));
  element('filter').hidden = false;
  element('pages').hidden = rows.length <= shown;
  element('previous').disabled = true;
  addEventListener('hashchange', follow);
  follow();
})();
