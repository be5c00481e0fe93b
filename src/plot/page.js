// Tables are sorted by the column whose header is pressed: numbers by value, empty cells last.
for (const table of document.querySelectorAll('table.sort')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    const key = row => {
      const text = row.cells[column].textContent, number = Number(text);
      return text === '' || text === 'nan' ? null : Number.isNaN(number) ? text : number;
    };
    const order = (a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      const kinds = typeof a.key === typeof b.key;
      const by = !kinds ? (typeof a.key === 'number' ? -1 : 1)
        : typeof a.key === 'number' ? a.key - b.key : a.key.localeCompare(b.key);
      return down ? -by : by;
    };
    const rows = [...body.rows].map(row => ({row, key: key(row)})).sort(order);
    heads.forEach(other => other.setAttribute('aria-sort', 'none'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    body.append(...rows.map(item => item.row));
  }));
}
