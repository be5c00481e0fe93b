"""check_page.py PAGE [probe] - is a report whole and self-contained? With `probe`, prints the
page with a script that sorts the last table in a browser and leaves what it saw in
<body data-probe>."""
import re
import sys
from html.parser import HTMLParser

VOID = {'meta', 'link', 'br', 'hr', 'img', 'input'}
OPEN = {'td', 'tr', 'th', 'tbody'}  # may stay open

PROBE = r'''<script>
addEventListener('load', () => {
  const say = text => document.body.setAttribute('data-probe', text);
  try {
    if (window.broken) return say('error: ' + window.broken);
    const table = [...document.querySelectorAll('table.sort')].pop();
    const heads = [...table.tHead.rows[0].cells];
    const at = heads.findIndex(h => /accuracy|distance/.test(h.textContent));
    const read = () => [...table.tBodies[0].rows].map(r => r.cells[at].textContent)
      .filter(t => t !== '' && t !== 'nan').map(Number);
    const rising = v => v.every((x, i) => i === 0 || v[i - 1] <= x);
    const rows = table.tBodies[0].rows.length;
    heads[at].querySelector('button').click();
    if (!rising(read())) return say('not rising');
    if (heads[at].getAttribute('aria-sort') !== 'ascending') return say('no aria-sort');
    heads[at].querySelector('button').click();
    if (!rising(read().reverse())) return say('not falling');
    if (table.tBodies[0].rows.length !== rows) return say('rows were lost');
    if (window.broken) return say('error: ' + window.broken);
    if (document.documentElement.scrollWidth > document.documentElement.clientWidth)
      return say('wider than the window: ' + document.documentElement.scrollWidth);
    say('ok');
  } catch (e) { say('error: ' + e); }
});
</script>
'''


class Checker(HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack, self.ids, self.wrong = [], set(), []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == 'id':
                if value in self.ids:
                    self.wrong.append('id %s twice' % value)
                self.ids.add(value)
            if name in ('src', 'href', 'xlink:href') and re.match(r'\w+:|//', value or ''):
                if not value.startswith('data:'):
                    self.wrong.append('%s leads outside: %s' % (name, value[:60]))
        if tag not in VOID | OPEN:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag in VOID | OPEN:
            return
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append('</%s> closes nothing at line %d' % (tag, self.getpos()[0]))


def main():
    text = open(sys.argv[1], encoding='utf-8').read()
    if sys.argv[2:] == ['probe']:
        first = '<script>window.onerror = text => { window.broken = text; }</script>'
        text = text.replace('<head>', '<head>' + first, 1)
        print(text.replace('</body>', PROBE + '</body>', 1))
        return 0
    checker = Checker()
    checker.feed(text)
    wrong = checker.wrong + ['<%s> stays open' % t for t in checker.stack]
    if 'figures' not in checker.ids or 'configuration' not in checker.ids:
        wrong.append('figures or configuration are missing')
    if len(text) > 5e6:
        wrong.append('%d bytes' % len(text))
    print('\n'.join(wrong[:10]))
    return 1 if wrong else 0


sys.exit(main())
