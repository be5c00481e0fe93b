#!/bin/bash
# test_plot.sh BUILD - `cohort plot` and `cohort report` as a user meets them: figures of real
# small runs and sweeps, and what is said of those that are empty, running, failed, or drawn
# without gnuplot; the page in a browser, where there is one.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
failed=0

verdict() { # NAME COMMAND...: COMMAND decides; every test ends here
  local name=$1
  shift
  if "$@" >"$work/verdict" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    cat "$work/verdict" "$work/out"
    failed=1
  fi
}

ends() { # STATUS COMMAND...: runs cohort in $work, output in $work/out
  local want=$1 got
  shift
  (cd "$work" && "$cohort" "$@") >"$work/out" 2>&1
  got=$?
  [ "$got" -eq "$want" ] || echo "exit status $got, not $want"
  [ "$got" -eq "$want" ]
}

says() { grep -qF -- "$1" "$work/out" || { echo "'$1' is not in:" && false; }; }
lacks() { ! grep -qF -- "$1" "$work/out"; }
has() { grep -qF -- "$2" "$work/$1" || { echo "'$2' is not in $1" && false; }; }
drawn() { # FOLDER NAME...: each figure is there, as whole XML, with its numbers
  local folder=$work/$1 name
  shift
  for name; do
    [ -s "$folder/$name.csv" ] || { echo "no $folder/$name.csv" && return 1; }
    /usr/bin/python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' \
      "$folder/$name.svg" || return 1
  done
}
# well formed: every tag that must be closed is, and nothing is fetched from anywhere
page() { /usr/bin/python3 tests/check_page.py "$work/$1"; }

# ---- an extraction ---------------------------------------------------------------------------

name='it'"'"'s "3" <b>& é'
cat >"$work/x.ini" <<I
[experiment]
job = extract
name = 'a "b" <i>'
report = true
[query]
datagen = random
samples = 600
[teacher]
model = dense_5_3_2
[model]
name = students_dense(5)_5_6_2
activation = tanh
[training]
steps = 300ep
batch_size = 600
lr = 0.02
finish = lbfgs
[extraction]
stability = true
gamma = 0.6
finetune_steps = 0ep
I
verdict "a run ends with its report" ends 0 run x.ini "experiment.name=$name"
verdict "a run ends with its report ... and says where it is" says "report: results/$name/1-1/runs/"
run=$(cd "$work" && ls -d "results/$name"/1-1/runs/*/seed_0)
run=${run#"$work/"}
extraction=$(cd "$work" && ls -d "$run"/extraction-*)
verdict "all figures of an extraction" drawn "$extraction/plots" losses lr dendrogram \
  distances cuts alignment sizes neurons weights stability finetuning
verdict "the page of an extraction" page "$extraction/report.html"
verdict "the page of an extraction ... says what was found" has "$extraction/report.html" "3 neurons found, the teacher has 3"
verdict "the page of an extraction ... escapes names" has "$extraction/report.html" \
  "it&#39;s &quot;3&quot; &lt;b&gt;&amp; é"
before=$(cat "$work/$extraction/plots/dendrogram.csv")
verdict "some kinds only, as PNG and PDF" ends 0 plot "results/$name" dendrogram sizes \
  --format png,pdf --out few
verdict "some kinds only, as PNG and PDF ... and no others" [ "$(cd "$work/few" && echo *.csv)" = "dendrogram.csv sizes.csv" ]
verdict "some kinds only, as PNG and PDF ... of both formats" [ -s "$work/few/sizes.png" -a -s "$work/few/sizes.pdf" ]
verdict "the same numbers again" [ "$before" = "$(cat "$work/few/dendrogram.csv")" ]
verdict "gnuplot alone draws it again" sh -c "cd '$work/few' && gnuplot -e \"format='png'; \
  target='again.png'\" sizes.gp && cmp sizes.png again.png"
verdict "a kind that is none" ends 2 plot "results/$name" dendogram
verdict "a kind that is none ... is told" says 'no kind of figure "dendogram"'
verdict "help behind a path" ends 0 plot nothing/there --help
verdict "help behind a path ... tells the kinds" says "dendrogram"
verdict "a path that is none" ends 2 plot nothing/there

# ---- without gnuplot ---------------------------------------------------------------------------

mkdir "$work/bin"
for program in orted env ssh sh; do
  ln -s "$(command -v $program || echo /bin/true)" "$work/bin/$program"
done
without() { (PATH=$work/bin && ends "$@"); }
verdict "no gnuplot: the page is made" without 0 report "$run" --out bare
verdict "no gnuplot: the page is made ... and tells" says "gnuplot is not there"
verdict "no gnuplot: the page is made ... in the page, too" has bare/report.html "install it (Debian: gnuplot-nox)"
verdict "no gnuplot: the page is made ... with the numbers" [ -s "$work/bare/dendrogram.csv" ]
verdict "no gnuplot: figures alone fail" without 1 plot "$run" --out bare2
verdict "no gnuplot: the run itself does not" without 0 run x.ini "experiment.name=$name"

# ---- runs on their way -------------------------------------------------------------------------

early=$work/early/seed_0
mkdir -p "$early"
cp "$work/$run/run.ini" "$early"
verdict "an empty run: plot" ends 1 plot early/seed_0
verdict "an empty run: plot ... is told" says "there is nothing to draw yet"
verdict "an empty run: report" ends 0 report early/seed_0
verdict "an empty run: report ... is told" has early/seed_0/report.html "There are no results yet"
head -8 "$work/$run/metrics.csv" >"$early/metrics.csv"
sed 's/"status": "done"/"status": "running"/' "$work/$run/manifest.json" \
  >"$early/manifest.json"
verdict "a running run: report" ends 0 report early/seed_0
verdict "a running run: report ... is told" has early/seed_0/report.html "still running"
verdict "a running run: report ... has what there is" drawn early/seed_0/plots losses
verdict "a running run: report ... and no more" [ ! -e "$early/plots/dendrogram.csv" ]
sed -i 's/^\([0-9]*,train_loss,1\),.*/\1,nan/; s/^\([0-9]*,train_loss,2\),.*/\1,inf/' \
  "$early/metrics.csv"
verdict "NaN among the values" ends 0 plot early/seed_0 losses
verdict "NaN among the values ... the others are drawn" drawn early/seed_0/plots losses
verdict "NaN among the values ... it is told" has early/seed_0/plots/losses.gp "2 of them end without a number"
sed -i 's/,train_loss,\([0-9]\),.*/,train_loss,\1,nan/' "$early/metrics.csv"
verdict "nothing but NaN" ends 1 plot early/seed_0 losses
verdict "nothing but NaN ... is told" says "no value of train_loss is a number"
echo broken >"$early/metrics.csv"
verdict "a damaged file" ends 1 plot early/seed_0
verdict "a damaged file ... is named" says "early/seed_0/metrics.csv"

# ---- sweeps --------------------------------------------------------------------------------------

cat >"$work/s.ini" <<'I'
[experiment]
job = train
name = try
[dataset]
name = mnist
subsample_fraction = 0.004
[model]
name = dense_784_4_10
[training]
steps = 1ep
batch_size = 50
[sweep]
training.lr = 1e-3, 1e-2, 1e30
model.activation = identity, relu
experiment.seed = 0..2
I
verdict "a sweep that was not run" ends 2 report s.ini
(cd "$work" && "$cohort" run s.ini --sub-batch 1/2 experiment.quiet=true) >"$work/log" 2>&1
verdict "half of a sweep" ends 0 report results/try
verdict "half of a sweep ... is told" has results/try/report.html "9 missing"
verdict "half of a sweep ... nothing is left in its folder but the report" \
  [ "$(cd "$work/results/try" && echo *)" = "1-2 plots report.html sweep.ini" ]
(cd "$work" && "$cohort" run s.ini --sub-batch 2/2 experiment.quiet=true) >"$work/log" 2>&1
verdict "all of it, by its file" ends 0 report s.ini
verdict "all of it, by its file ... failures are told" has results/try/report.html "12 of 18 runs done, 6 failed"
verdict "all of it, by its file ... the best is named" has results/try/report.html "Highest test_accuracy: 0."
verdict "figures of a sweep" drawn results/try/plots measure-training.lr \
  measure-model.activation heatmap pareto parallel status
verdict "figures of a sweep ... their table" has results/try/plots/runs.csv "run_id"
verdict "the page of a sweep" page results/try/report.html
verdict "axes of one's own" ends 0 plot results/try measure heatmap \
  --x model.activation --y train_loss:log --z train_loss --out own
verdict "axes of one's own ... are drawn" drawn own measure-model.activation heatmap
verdict "an axis that is none" ends 2 plot results/try measure --x training.rate
verdict "an axis that is none ... is told what there is" says "training.lr"
verdict "two parameters make a heat map" ends 0 plot results/try heatmap \
  --x model.activation --y training.lr --out two
verdict "two parameters make a heat map ... of a measure" says "test_accuracy over model.activation and training.lr"
verdict "text as a measure" ends 2 plot results/try measure --y hosts
verdict "text as a measure ... is told" says "--y hosts: a measure is drawn there"
verdict "a kind of other runs" ends 1 plot results/try dendrogram
verdict "a kind of other runs ... is told" says "there is nothing to draw of this kind: a training"
verdict "a scale that is none" ends 2 plot results/try --x training.lr:sqrt
verdict "one run of a sweep" ends 0 report results/try --run 3
verdict "one run of a sweep ... is told" has results/try/plots/run-3/report.html \
  "run 3 of the sweep"
verdict "one run of a sweep ... its own curves" drawn results/try/plots/run-3 loss accuracy \
  layers-1
verdict "one run of a sweep ... and no other's" \
  sh -c "! grep -q 'of 9 members' '$work/results/try/plots/run-3/report.html'"
verdict "a run that is not there" ends 2 plot results/try --run 99
verdict "a number that is none" ends 2 plot results/try --run x
verdict "of one pack" ends 0 report "$(cd "$work" && ls -d results/try/1-2/packs/* | head -1)"
rm -r "$work/results/try/1-2/packs"
verdict "report = true behind a merge" ends 3 merge results/try
(cd "$work" && "$cohort" run s.ini experiment.name=whole experiment.report=true \
  experiment.quiet=true sweep.training.lr=1e-2) >"$work/out" 2>&1
verdict "report = true of a whole sweep" page results/whole/report.html

cat >"$work/c.ini" <<'I'
[experiment]
job = compress
name = small
report = true
[dataset]
name = teacher_student
[model]
name = dense_2_6_5_1
activation = tanh
[compress]
min_epochs = 20
max_epochs = 20
finetuning_min_epochs = 5
finetuning_max_epochs = 5
[sweep]
compress.procedure = rl1, pmmp
compress.alpha = 0, 1e-2, 1
experiment.seed = 0..1
I
verdict "a compression" ends 0 run c.ini experiment.quiet=true
verdict "a compression ... over its strength" drawn results/small/plots \
  measure-compress.alpha measure-compress.alpha-l0_norm heatmap pareto parallel
verdict "a compression ... is called one" has results/small/report.html "): compression, "
verdict "a compression ... and its page" page results/small/report.html
verdict "a compression ... is called one" has results/small/plots/status.gp ": compression, dense_2_6_5_1"
verdict "a compression ... one of its runs" ends 0 report results/small --run 11
verdict "a compression ... how small it is" has results/small/plots/run-11/report.html "compression_rate"
verdict "a compression ... its weights" drawn results/small/plots/run-11 l0 layers-1 \
  layers-2 layers-3

# Runs that end at different steps, with losses below 0: code lengths of a Gaussian.
sed -e '/^\[sweep\]/,$d; s/^max_epochs.*/max_epochs = 600\nsmoothing_window = 8/' \
  -e 's/^\[compress\]/[training]\nlr = 1e-2\nevaluate_every = 5ep\n&/' "$work/c.ini" >"$work/e.ini"
printf '[sweep]\ncompress.procedure = rl1\ncompress.alpha = 0, 1, 3\n' >>"$work/e.ini"
verdict "runs that end apart" ends 0 run e.ini experiment.quiet=true experiment.name=apart
pack=$(cd "$work" && ls -d results/apart/1-1/packs/* | head -1)
verdict "runs that end apart ... their curves" ends 0 plot "$pack" loss --out apart
verdict "runs that end apart ... it is told" has apart/loss.gp "of them ended earlier and"
verdict "runs that end apart ... and no one diverged" \
  sh -c "! grep -q diverged '$work/apart/loss.gp'"
verdict "runs that end apart ... have no rows beyond" \
  sh -c "! grep -q nan '$work/$pack/metrics.csv'"
verdict "losses below 0" grep -q "^test set,[0-9]*,-" "$work/apart/loss.csv"
verdict "losses below 0 ... are on a linear axis" \
  sh -c "! grep -q 'logscale y' '$work/apart/loss.gp'"

# ---- a browser -------------------------------------------------------------------------------------

browser=$(command -v chromium || true)
look() { # PAGE WIDTH: what the page says of itself once a table was sorted twice
  /usr/bin/python3 tests/check_page.py "$work/$1" probe >"$work/probe.html" || return 1
  timeout 60 "$browser" --headless --no-sandbox --disable-gpu --window-size="$2",900 \
    --user-data-dir="$work/chromium" --virtual-time-budget=2000 --dump-dom \
    "file://$work/probe.html" 2>"$work/log" | grep -o 'data-probe="[^"]*"' >"$work/out"
  says 'data-probe="ok"'
}
if [ -n "$browser" ]; then
  verdict "browser, 1400 wide: no error, sorting" look results/try/report.html 1400
  verdict "browser, 400 wide: no error, sorting" look results/try/report.html 400
  cp "$work/$extraction/report.html" "$work/x.html"
  verdict "browser: an extraction" look x.html 1400
else
  echo "skip the page in a browser: chromium is not installed (apt-get install chromium)"
fi
exit $failed
