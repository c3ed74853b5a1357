package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cairn/durability"
)

const year = 365.25 * 24 * time.Hour

// planFlags describe a design on paper.
type planFlags struct {
	profile, afr, latent string
	repair, scrub        time.Duration
	drives               int
	correlation          float64
}

// planAnswer is what `cairn plan` prints. Times to data loss are means, in years.
type planAnswer struct {
	Profile      string  `json:"profile"`
	AFR          float64 `json:"afr"`
	RepairHours  float64 `json:"repair_hours"`
	Overhead     float64 `json:"overhead"` // bytes stored for each byte
	Availability struct {
		Drive float64 `json:"drive"`
		Read  float64 `json:"read"`
		Write float64 `json:"write"`
	} `json:"availability"`
	MTTDLYears           float64 `json:"mttdl_years"` // of a stripe, drives failing independently
	MTTDLYearsCorrelated float64 `json:"mttdl_years_correlated"`
	Correlation          float64 `json:"correlation"`
	Drives               int     `json:"drives,omitempty"`
	PoolMTTDLYears       float64 `json:"pool_mttdl_years,omitempty"`
	PoolYearlyLoss       float64 `json:"pool_yearly_loss,omitempty"` // probability that any stripe is lost within a year
}

func planCommand() *cobra.Command {
	var output outputFlag
	var f planFlags
	c := &cobra.Command{
		Use:   "plan",
		Short: "Say how durable and available a design on paper would be",
		Long: "Say how durable and available a design on paper would be: the exact Markov chain of a stripe's lost shards, rebuilt in\n" +
			"parallel. No server is asked. Independent failures of drives are all that it knows of.",
		Example: "  cairn plan --profile 8+4 --afr 1.4% --repair-time 24h --drives 48",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := f.answer()
			if err != nil {
				return usageError(c, err)
			}
			return output.print(c.OutOrStdout(), a, func() string { return planText(a) })
		},
	}
	output.register(c)
	fl := c.Flags()
	fl.StringVar(&f.profile, "profile", "4+2", "data+parity, or data+2+global for a local code of two groups, e.g. 12+2+2")
	fl.StringVar(&f.afr, "afr", "1.4%", "share of the drives that fail within a year")
	fl.DurationVar(&f.repair, "repair-time", 24*time.Hour, "time until a lost shard is rebuilt")
	fl.DurationVar(&f.scrub, "scrub-interval", 14*24*time.Hour, "time in which every shard is read once")
	fl.StringVar(&f.latent, "latent", "0%", "share of the shards that go bad unnoticed within a year")
	fl.Float64Var(&f.correlation, "correlation", 10, "factor on the failure rate once a drive has failed, for the figure beside the independent one")
	fl.IntVar(&f.drives, "drives", 0, "drives of the whole store, for the figure of the store")
	return c
}

func (f planFlags) answer() (a planAnswer, err error) {
	code, err := durability.ParseCode(f.profile)
	if err != nil {
		return a, err
	}
	afr, err := parseShare("--afr", f.afr)
	if err != nil {
		return a, err
	}
	latent, err := parseShare("--latent", f.latent)
	if err != nil {
		return a, err
	}
	switch {
	case afr == 0:
		return a, errors.New("--afr 0: every drive fails some day")
	case f.repair <= 0 || f.scrub <= 0:
		return a, errors.New("--repair-time and --scrub-interval are longer than 0")
	case f.correlation < 1:
		return a, fmt.Errorf("--correlation %v: want 1 or more", f.correlation)
	case f.drives != 0 && f.drives < code.N:
		return a, fmt.Errorf("--drives %d: %s needs %d", f.drives, f.profile, code.N)
	}
	r := durability.Risks{Lambda: durability.FailureRate(afr), MTTR: f.repair.Hours() / year.Hours(),
		LatentRate: durability.FailureRate(latent), ScrubEvery: f.scrub.Hours() / year.Hours()}
	worse := r
	worse.Correlation = f.correlation
	a = planAnswer{Profile: f.profile, AFR: afr, RepairHours: f.repair.Hours(), Overhead: float64(code.N) / float64(code.K),
		MTTDLYears: durability.MTTDL(code, r), MTTDLYearsCorrelated: durability.MTTDL(code, worse), Correlation: f.correlation}
	up := durability.Availability(r.Lambda, r.MTTR)
	a.Availability.Drive = up
	a.Availability.Read = code.Readable(up)
	a.Availability.Write = durability.KOfN(code.WriteQuorum(), code.N, up)
	if f.drives > 0 {
		a.Drives, a.PoolMTTDLYears = f.drives, durability.PoolMTTDL(code, f.drives, r)
		a.PoolYearlyLoss = -math.Expm1(-1 / a.PoolMTTDLYears)
	}
	return a, nil
}

// parseShare reads "1.4%" or "0.014".
func parseShare(flag, s string) (float64, error) {
	text, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(text, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v < 1) {
		return 0, fmt.Errorf("%s %q: want a share below 100%%, e.g. 1.4%%", flag, s)
	}
	return v, nil
}

func planText(a planAnswer) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "profile\t%s, %.2f bytes stored for each\n", a.Profile, a.Overhead)
	fmt.Fprintf(t, "drive\tavailable %.7f of the time\n", a.Availability.Drive)
	fmt.Fprintf(t, "stripe\treadable %.12f, writable %.12f of the time\n", a.Availability.Read, a.Availability.Write)
	fmt.Fprintf(t, "data loss\tof a stripe every %.2g years by independent failures\n", a.MTTDLYears)
	fmt.Fprintf(t, "\tof a stripe every %.2g years if failures are %g times as likely after the first\n", a.MTTDLYearsCorrelated, a.Correlation)
	if a.Drives > 0 {
		fmt.Fprintf(t, "\tsomewhere on %d drives every %.2g years, if any of them may share a stripe\n", a.Drives, a.PoolMTTDLYears)
	}
	t.Flush()
	return b.String()
}
