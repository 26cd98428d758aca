package main

// limit is what a ratio must be, and what it had better be: at most, or at least.
type limit struct {
	must, goal float64
	atLeast    bool
}

func atMost(must, goal float64) limit  { return limit{must, goal, false} }
func atLeast(must, goal float64) limit { return limit{must, goal, true} }

func (l limit) met(value, bound float64) bool {
	if l.atLeast {
		return value >= bound
	}
	return value <= bound
}

// verdict is a ratio of this run beside its limit, as in bench.json.
type verdict struct {
	Claim   string  `json:"claim"`
	App     string  `json:"app"`
	CPUs    int     `json:"cpus,omitempty"` // 0 where they make no difference
	Value   float64 `json:"value"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	AtLeast bool    `json:"at_least"` // else at most
	Must    float64 `json:"must"`
	MustMet bool    `json:"must_met"`
	Goal    float64 `json:"goal"`
	GoalMet bool    `json:"goal_met"`
}

// verdicts holds what was measured against what the project sets out to reach. What was not measured is left out.
func (r *results) verdicts() []verdict {
	var list []verdict
	judge := func(claim, app string, cpus int, l limit, s spread, ok bool) {
		if !ok {
			return
		}
		list = append(list, verdict{
			Claim: claim, App: app, CPUs: cpus, Value: s.median, Min: s.min, Max: s.max, AtLeast: l.atLeast,
			Must: l.must, MustMet: l.met(s.median, l.must), Goal: l.goal, GoalMet: l.met(s.median, l.goal),
		})
	}
	times := func(claim string, x, y series, l limit) {
		s, ok := r.ratios(x, y)
		judge(claim, x.app, x.cpus, l, s, ok)
	}
	for _, m := range r.measured() {
		on := func(path string) series { return series{m.app, m.cpus, path} }
		if m.app == crowdApp {
			times("hot, warm cache ÷ floor", on(pathWarm), series{floor.name, m.cpus, pathFloor}, atMost(1.6, 1.25))
			times("cold ÷ hot, warm cache", on(pathCold), on(pathWarm), atLeast(9, 12))
			times("cold ÷ hot, empty cache", on(pathCold), on(pathEmpty), atLeast(6, 10))
		}
		times("Podman restore ÷ hot, warm cache", on(pathPodman), on(pathWarm), atLeast(4, 6))
	}
	all := r.allCPUs()
	times("1 GB ÷ 64 MB, hot, lazy", series{"ballast-1g", all, pathLazy}, series{"ballast-64m", all, pathLazy}, atMost(1.3, 1.05))
	times("8 clones at once ÷ 8 cold boots at once",
		series{crowdApp, all, crowdPath("hot", crowd)}, series{crowdApp, all, crowdPath(pathCold, crowd)}, atMost(0.25, 0.1))
	for _, a := range services {
		s, ok := r.sizeRatio(a.name, sizeSnapshot, sizePodman)
		judge("snapshot ÷ Podman's export", a.name, 0, atMost(1.1, 0.9), spread{s, s, s}, ok)
	}
	return list
}

func (r *results) sizeRatio(app, x, y string) (ratio float64, ok bool) {
	a, ok := r.bytes(app, x)
	b, ok2 := r.bytes(app, y)
	if !ok || !ok2 {
		return 0, false
	}
	return float64(a) / float64(b), true
}
