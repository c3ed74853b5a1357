package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"cairn/admin"
	"cairn/events"
)

func eventCommand() *cobra.Command {
	return group("event", "Tell webhooks of what happens to objects",
		group("target", "The webhooks that buckets may tell", eventAddCommand(), eventListCommand(), eventRemoveCommand()))
}

func eventAddCommand() *cobra.Command {
	var t events.Target
	c := identityCommand(&cobra.Command{Use: "add NAME URL", Short: "Let buckets tell a webhook of events",
		Long: "Let buckets tell a webhook of events, or change the webhook of that name.\n\n" +
			"A bucket's owner then names it in PutBucketNotificationConfiguration, as the Queue of a QueueConfiguration:\n" +
			events.ARN("NAME") + ". Every event is posted as S3's JSON record, at least once.",
		Example: "  cairn event target add builds https://ci.example.com/hooks/cairn --token s3cret",
		Args:    usageArgs(cobra.ExactArgs(2))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			t.Name, t.URL = args[0], args[1]
			if err := t.Validate(); err != nil {
				return usageError(c, err)
			}
			var made admin.EventTarget
			if err := a.send(c.Context(), "POST", "/api/v1/events/targets", t, &made); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), made, func() string { return made.ARN })
		})
	c.Flags().StringVar(&t.Token, "token", "", "sent to the webhook as Authorization: Bearer; it is kept in the metadata as it is")
	c.Flags().BoolVar(&t.Private, "allow-private", false, "the webhook may have an address inside the network: loopback, private, link-local")
	return c
}

func eventListCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "ls", Short: "List webhooks, how many events wait for each and for how long", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var list []admin.EventTarget
			if err := a.call(c.Context(), "GET", "/api/v1/events/targets", &list); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func() string {
				rows := [][]string{{"NAME", "URL", "QUEUED", "LAG", "LOST", "TROUBLE"}}
				for _, t := range list {
					lag := time.Duration(t.Lag * float64(time.Second)).Round(time.Second)
					rows = append(rows, []string{t.Name, t.URL, fmt.Sprint(t.Queued), lag.String(), fmt.Sprint(t.Lost), t.Trouble})
				}
				return tableText(rows)
			})
		})
}

func eventRemoveCommand() *cobra.Command {
	var yes bool
	c := identityCommand(&cobra.Command{Use: "rm NAME", Short: "Remove a webhook that no bucket tells any more, with the events that wait for it",
		Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			if !yes {
				return usageError(c, fmt.Errorf("events that wait for %s will be gone: say --yes", args[0]))
			}
			var gone struct{}
			if err := a.call(c.Context(), "DELETE", "/api/v1/events/targets/"+url.PathEscape(args[0]), &gone); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), gone, func() string { return args[0] + " is removed" })
		})
	c.Flags().BoolVar(&yes, "yes", false, "remove the events that wait, too")
	return c
}
