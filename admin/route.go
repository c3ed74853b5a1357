package admin

import (
	"net/http"
	"strings"
)

// Route is one line of the admin API. From the lines come the mux, the authorization, the audit record, the OpenAPI document
// and the test that every one has a form on the command line.
type Route struct {
	// Pattern is the method and path, as http.ServeMux reads them.
	Pattern string
	// Action is what policies call it, "cairn:…". The policy engine that decides about S3 decides about it too.
	Action string
	// CLI is a command line of cairn that makes this request, without the program's name.
	CLI string
	// What it does, in one sentence.
	What string
	// Query names the parameters in the query, with what each means.
	Query []Parameter
	// Takes and Gives are values of the Go types of the documents, nil for none.
	Takes, Gives any
	// ReadOnly: it changes nothing, though its method says that it may. Neither it nor a GET is audited.
	ReadOnly bool
	// Grants: it changes who may do what, which only administrators without limits may, lest one gives itself more.
	Grants bool

	handle handler
	raw    bool // the path is matched before the mux, which would clean "//" and ".." out of keys
}

// Parameter is one parameter of a query.
type Parameter struct{ Name, What string }

type (
	handler  func(w http.ResponseWriter, r *http.Request) (any, error)
	register func(Route, handler)
)

// Method is the method of the pattern.
func (r Route) Method() string { method, _, _ := strings.Cut(r.Pattern, " "); return method }

// Path is the path of the pattern, with its parameters in braces.
func (r Route) Path() string { _, path, _ := strings.Cut(r.Pattern, " "); return path }

// Changes tells whether the request may change something, and so is audited.
func (r Route) Changes() bool { return r.Method() != http.MethodGet && !r.ReadOnly }

// Routes returns all lines of the API, those too that a process of fewer roles does not serve.
func Routes() []Route { return new(Server).routes(func(string) bool { return true }) }

// Parts of the API that a process may lack.
const (
	partIdentities = "identities"
	partBuckets    = "buckets"
	partJobs       = "jobs"
	partFleet      = "fleet"
	partJournal    = "journal"
	partWebhooks   = "webhooks"
	partEncryption = "encryption"
	partThrottling = "throttling"
)

// routes gathers the lines of the parts that the process has.
func (s *Server) routes(has func(part string) bool) (list []Route) {
	api := func(r Route, h handler) {
		r.handle = h
		list = append(list, r)
	}
	s.statusRoutes(api)
	s.scrubRoutes(api)
	s.clusterRoutes(api)
	s.consoleRoutes(api)
	for _, p := range []struct {
		part string
		add  func(register)
	}{{partIdentities, s.identityRoutes}, {partBuckets, s.bucketRoutes}, {partJobs, s.jobRoutes}, {partFleet, s.fleetRoutes}, {partThrottling, s.throttleRoutes}, {partJournal, s.auditRoutes}, {partWebhooks, s.webhookRoutes},
		{partEncryption, s.encryptionRoutes}} {
		if has(p.part) {
			p.add(api)
		}
	}
	return list
}

// serves tells which parts the process has.
func (s *Server) serves(part string) bool {
	switch part {
	case partIdentities:
		return s.cfg.Identities != nil
	case partBuckets:
		return s.cfg.Buckets != nil
	case partJobs:
		return s.cfg.Jobs != nil
	case partFleet:
		return s.cfg.Fleet != nil
	case partEncryption:
		return s.cfg.Encryption != nil
	case partWebhooks:
		return s.cfg.Webhooks != nil
	case partThrottling:
		return s.cfg.Throttling != nil
	}
	return s.cfg.Journal != nil
}
