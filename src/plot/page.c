/* page.c - the report as one HTML file: summary, figures, tables, configuration,
 * versions. Style and script are page.css and page.js, which the build turns into texts
 * of C. Uses base, store. */
#include "plot/private.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
#include "page.css.inc"
    ;
static const char script[] =
#include "page.js.inc"
    ;

enum { TABLE_BYTES = 3 << 20, FIGURE_BYTES = 1 << 20 }; /* more is left out, and said */

static void add_escaped(coh_text *out, const char *text) {
  for (const char *c = text; *c; c++) switch (*c) {
    case '&':
      coh_text_add(out, "&amp;");
      break;
    case '<':
      coh_text_add(out, "&lt;");
      break;
    case '>':
      coh_text_add(out, "&gt;");
      break;
    case '"':
      coh_text_add(out, "&quot;");
      break;
    case '\'':
      coh_text_add(out, "&#39;");
      break;
    default:
      coh_text_addn(out, c, 1);
    }
}

/* ---- figures ---------------------------------------------------------------------- */

static bool starts(const char *at, const char *with) {
  return strncmp(at, with, strlen(with)) == 0;
}

/* The drawing's names get a prefix of their own, so that no two of the page are equal;
 * filters that nothing uses are left out. */
static void add_svg_body(coh_text *out, const char *at, size_t number) {
  while (*at) {
    size_t n = strcspn(at, "<gd");
    coh_text_addn(out, at, n);
    at += n;
    if (!*at) break;
    const char *end = starts(at, "<filter") ? strstr(at, "</filter>") : NULL;
    if (end) {
      at = end + strlen("</filter>");
      continue;
    }
    if (starts(at, "data:image")) {
      n = strcspn(at, "'\"");
      coh_text_addn(out, at, n);
      at += n;
      continue;
    }
    if (starts(at, "gpPt") || starts(at, "gpPat") || starts(at, "gpDot") ||
        starts(at, "gnuplot_"))
      coh_text_add(out, "f%zu-", number);
    coh_text_addn(out, at++, 1);
  }
}

/* The SVG of a figure in the page: without its prologue. *size of its file. */
static int add_svg(const coh_figures *f, size_t number, coh_text *out, bool *fits,
                   coh_error *err) {
  int rc;
  size_t len;
  unsigned w = 0, h = 0;
  char path[COH_PATH], *svg = NULL;
  const coh_figure *g = f->item + number;
  *fits = false;
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s.svg", f->folder, g->name));
  COH_TRY(coh_file_read(path, &svg, &len, err));
  const char *box = strstr(svg, "viewBox=\"0 0 ");
  const char *body = strstr(svg, "<g id=\"gnuplot_canvas\"");
  if (!box || !body || sscanf(box, "viewBox=\"0 0 %u %u", &w, &h) != 2)
    COH_TRY(coh_fail(err, COH_EDATA, "%s: not an SVG as gnuplot writes it", path));
  *fits = len < FIGURE_BYTES;
  if (!*fits) goto cleanup;
  coh_text_add(out, "<svg viewBox=\"0 0 %u %u\" role=\"img\" aria-label=\"", w, h);
  add_escaped(out, g->title);
  coh_text_add(out, "\" xmlns:xlink=\"http://www.w3.org/1999/xlink\">");
  add_svg_body(out, body, number);
cleanup:
  free(svg);
  return rc;
}

static int add_figure(const coh_figures *f, const coh_page *p, size_t i, coh_text *out,
                      coh_error *err) {
  bool fits = true;
  const coh_figure *g = f->item + i;
  coh_text_add(out, "<figure id=\"%s\">\n", g->name);
  int rc = g->drawn ? add_svg(f, i, out, &fits, err) : COH_OK;
  if (rc != COH_OK) return rc;
  if (!g->drawn || !fits)
    coh_text_add(out, "<p class=\"note\">%s</p>",
                 g->drawn ? "This figure is too large for the page: see its file."
                          : "This figure was not drawn.");
  coh_text_add(out, "<figcaption><b>");
  add_escaped(out, g->title);
  coh_text_add(out, ".</b> ");
  add_escaped(out, g->caption);
  coh_text_add(out, " <a href=\"%s/%s.csv\">Numbers</a>", p->files, g->name);
  if (g->drawn) coh_text_add(out, ", <a href=\"%s/%s.svg\">SVG</a>", p->files, g->name);
  coh_text_add(out, ".</figcaption>\n</figure>\n");
  return COH_OK;
}

/* ---- tables ----------------------------------------------------------------------- */

static bool is_number(const char *cell) {
  return *cell && !isnan(coh_text_number(cell));
}

/* A cell as it is shown: numbers of many digits to six of them. */
static void add_cell(const char *cell, coh_text *out) {
  bool number = is_number(cell);
  coh_text_add(out, number ? "<td class=n>" : "<td>");
  if (number && strlen(cell) > 10 && strspn(cell, "-0123456789") < strlen(cell))
    coh_text_add(out, "%.6g", coh_text_number(cell));
  else
    add_escaped(out, cell);
}

static void add_row(const coh_page_table *t, size_t row, coh_text *out) {
  coh_text_add(out, "<tr>");
  for (size_t c = 0; c < t->table->n_col; c++) {
    const char *cell = t->table->cell[row * t->table->n_col + c];
    if (t->shown && !t->shown[c]) continue;
    add_cell(cell, out);
  }
  coh_text_add(out, "\n");
}

static void add_table(const coh_page_table *t, size_t number, coh_text *out) {
  size_t start = out->len, row = 0;
  coh_text_add(out, "<section id=\"table%zu\">\n<h2>", number);
  add_escaped(out, t->title);
  coh_text_add(out, "</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                    "aria-label=\"");
  add_escaped(out, t->title);
  coh_text_add(out, "\">\n<table class=\"sort\"><thead><tr>");
  for (size_t c = 0; c < t->table->n_col; c++) {
    if (t->shown && !t->shown[c]) continue;
    coh_text_add(out, "<th scope=\"col\" aria-sort=\"none\"><button type=\"button\">");
    add_escaped(out, t->table->col[c]);
    coh_text_add(out, "</button></th>");
  }
  coh_text_add(out, "</tr></thead><tbody>\n");
  for (; row < t->table->n_row && out->len - start < TABLE_BYTES; row++)
    add_row(t, row, out);
  coh_text_add(out, "</tbody></table></div>\n");
  if (row < t->table->n_row)
    coh_text_add(out, "<p class=\"note\">The first %zu of %zu rows.</p>\n", row,
                 t->table->n_row);
  coh_text_add(out, "</section>\n");
}

/* ---- manifest ---------------------------------------------------------------------- */

static void add_value(const char *name, const json_t *v, coh_text *out) {
  coh_text_add(out, "<tr><th scope=\"row\">");
  add_escaped(out, name);
  coh_text_add(out, "</th><td>");
  if (json_is_string(v)) add_escaped(out, json_string_value(v));
  if (json_is_integer(v)) coh_text_add(out, "%lld", (long long)json_integer_value(v));
  coh_text_add(out, "</td></tr>\n");
}

/* The entries of an object, those of objects in it as "versions git"; at most a level. */
static void add_entries(const json_t *o, coh_text *out) {
  const char *key, *inner;
  json_t *v, *w;
  json_object_foreach((json_t *)(uintptr_t)o, key, v) {
    if (strcmp(key, "format") == 0) continue;
    if (!json_is_object(v)) {
      if (!json_is_null(v)) add_value(key, v, out);
      continue;
    }
    json_object_foreach(v, inner, w) {
      char name[256];
      const json_t *is = json_is_object(w) ? json_object_get(w, "status") : w;
      if (!is) is = json_object_get(w, "hash");
      snprintf(name, sizeof name, "%s: %s", key, inner);
      add_value(name, is, out);
    }
  }
}

static void add_manifest(const char *text, coh_text *out) {
  json_error_t why;
  json_t *o = json_loads(text, 0, &why);
  if (!json_is_object(o)) {
    json_decref(o);
    return;
  }
  coh_text_add(out, "<section id=\"versions\">\n<h2>Versions and hosts</h2>\n"
                    "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                    "aria-label=\"Versions and hosts\"><table><tbody>\n");
  add_entries(o, out);
  coh_text_add(out, "</tbody></table></div>\n</section>\n");
  json_decref(o);
}

/* ---- the page ---------------------------------------------------------------------- */

static void add_head(const coh_page *p, const coh_figures *f, coh_text *out) {
  coh_text_add(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta "
                    "charset=\"utf-8\">\n<meta name=\"viewport\" "
                    "content=\"width=device-width, initial-scale=1\">\n<title>");
  add_escaped(out, p->title);
  coh_text_add(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>",
               style);
  add_escaped(out, p->title);
  coh_text_add(out, "</h1>\n<p class=\"summary\">");
  add_escaped(out, p->summary);
  coh_text_add(out, "</p>\n<nav aria-label=\"Sections\">");
  if (f->n) coh_text_add(out, "<a href=\"#figures\">Figures</a>");
  for (size_t i = 0; i < p->n_table; i++) {
    coh_text_add(out, "<a href=\"#table%zu\">", i);
    add_escaped(out, p->table[i].title);
    coh_text_add(out, "</a>");
  }
  if (p->ini) coh_text_add(out, "<a href=\"#configuration\">Configuration</a>");
  if (p->manifest) coh_text_add(out, "<a href=\"#versions\">Versions and hosts</a>");
  coh_text_add(out, "</nav>\n</header>\n<main>\n");
}

static int add_figures(const coh_page *p, const coh_figures *f, coh_text *out,
                       coh_error *err) {
  int rc = COH_OK;
  if (f->notes.len) {
    coh_text_add(out, "<p class=\"note\">");
    add_escaped(out, f->notes.data);
    coh_text_add(out, "</p>\n");
  }
  if (f->n == 0) return COH_OK;
  coh_text_add(out, "<section id=\"figures\">\n<h2>Figures</h2>\n<div "
                    "class=\"figures\">\n");
  for (size_t i = 0; i < f->n && rc == COH_OK; i++) rc = add_figure(f, p, i, out, err);
  coh_text_add(out, "</div>\n</section>\n");
  return rc;
}

int coh_page_write(const char *path, const coh_page *p, const coh_figures *f,
                   coh_error *err) {
  int rc;
  coh_text out = {0};
  add_head(p, f, &out);
  COH_TRY(add_figures(p, f, &out, err));
  for (size_t i = 0; i < p->n_table; i++) add_table(p->table + i, i, &out);
  if (p->ini) {
    coh_text_add(&out, "<section id=\"configuration\">\n<h2>Configuration</h2>\n<pre "
                       "tabindex=\"0\">");
    add_escaped(&out, p->ini);
    coh_text_add(&out, "</pre>\n</section>\n");
  }
  if (p->manifest) add_manifest(p->manifest, &out);
  coh_text_add(&out,
               "</main>\n<footer>Made by cohort %s.</footer>\n<script>\n%s</script>\n"
               "</body>\n</html>\n",
               COH_VERSION, script);
  COH_TRY(coh_text_check(&out, err));
  COH_TRY(coh_shared_write(path, out.data, out.len, err));
cleanup:
  coh_text_free(&out);
  return rc;
}
