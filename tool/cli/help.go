package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// The texts that every command shares.
var (
	commonOptions = []Opt{
		{"--sock path", "Speak to the stack whose files are under path, whatever SOCK says."},
		{"--verbose", "Say more, and cut nothing short."},
		{"--help", "Print this text and exit."},
		{"--version", "Print the version and exit."},
	}
	jsonOption    = Opt{"--json", "Print JSON instead of text."}
	commonExit    = []Exit{{0, "Success."}, {1, "Failure; a sentence on standard error says why."}}
	commonEnv     = Item{"SOCK", "Prefix of the stack to speak to. The order is --sock, SOCK, the user's own stack, /dev/socket."}
	defaultManual = 8
)

// AllOptions are the options of the command with those that every command has.
func (c *Command) AllOptions() []Opt {
	out := append([]Opt(nil), c.Options...)
	if c.JSON != "" {
		out = append(out, jsonOption)
	}
	return append(out, commonOptions...)
}

func (c *Command) exits() []Exit {
	if len(c.ExitStatus) == 0 {
		return commonExit
	}
	return c.ExitStatus
}

func (c *Command) env() []Item { return append([]Item{commonEnv}, c.Env...) }

func (c *Command) section() int {
	if c.Section == 0 {
		return defaultManual
	}
	return c.Section
}

// usage writes BSD's usage lines: the first after "usage:", the others below.
func (c *Command) usage(w io.Writer) {
	forms := c.Synopsis
	if len(forms) == 0 {
		forms = []string{""}
	}
	for i, f := range forms {
		lead := "usage:"
		if i > 0 {
			lead = "      "
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s %s %s", lead, c.typed(), f), " "))
	}
}

// Help writes the whole text of the command as --help shows it.
func (c *Command) Help(out io.Writer) {
	w := bufio.NewWriter(out)
	defer w.Flush()
	fmt.Fprintf(w, "%s - %s\n\n", c.typed(), c.Short)
	c.usage(w)
	if c.Long != "" {
		fmt.Fprintln(w)
		writeWrapped(w, "", c.Long)
	}
	heading := func(s string) { fmt.Fprintf(w, "\n%s:\n", s) }
	heading("Options")
	for _, o := range c.AllOptions() {
		item(w, o.Flags, o.Text)
	}
	if c.JSON != "" {
		heading("JSON")
		writeWrapped(w, "  ", c.JSON)
	}
	heading("Exit status")
	for _, e := range c.exits() {
		item(w, fmt.Sprint(e.Status), e.Text)
	}
	for _, s := range []struct {
		name  string
		items []Item
	}{{"Environment", c.env()}, {"Files", c.Files}, {"Examples", c.Examples}} {
		if len(s.items) == 0 {
			continue
		}
		heading(s.name)
		for _, i := range s.items {
			item(w, i.Name, i.Text)
		}
	}
	if len(c.SeeAlso) > 0 {
		fmt.Fprintf(w, "\nSee also: %s\n", strings.Join(c.SeeAlso, ", "))
	}
}

// item writes a name, and its text beside it or below it when the name is long.
func item(w io.Writer, name, text string) {
	const column = 16
	if text == "" {
		fmt.Fprintf(w, "  %s\n", name)
		return
	}
	if len(name) > column-4 {
		fmt.Fprintf(w, "  %s\n", name)
		writeWrapped(w, strings.Repeat(" ", column), text)
		return
	}
	var b strings.Builder
	writeWrapped(&b, strings.Repeat(" ", column), text)
	body := b.String()
	lead := fmt.Sprintf("  %-*s", column-2, name)
	if strings.HasPrefix(body, strings.Repeat(" ", column)) {
		body = lead + body[column:]
	} else {
		body = strings.TrimRight(lead, " ") + "\n" + body
	}
	io.WriteString(w, body)
}

// paragraph is a run of lines; literal ones keep their shape.
type paragraph struct {
	lines   []string
	literal bool
}

func paragraphs(text string) (out []paragraph) {
	var cur paragraph
	flush := func() {
		if len(cur.lines) > 0 {
			out = append(out, cur)
		}
		cur = paragraph{}
	}
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		tabbed := strings.HasPrefix(line, "\t")
		if strings.TrimSpace(line) == "" {
			flush()
			continue
		}
		if len(cur.lines) > 0 && tabbed != cur.literal {
			flush()
		}
		cur.literal = tabbed
		cur.lines = append(cur.lines, strings.TrimPrefix(line, "\t"))
	}
	flush()
	return out
}

// writeWrapped fills paragraphs to 78 columns behind indent.
func writeWrapped(w io.Writer, indent, text string) {
	for i, p := range paragraphs(text) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if p.literal {
			for _, l := range p.lines {
				fmt.Fprintf(w, "%s    %s\n", indent, l)
			}
			continue
		}
		line := indent
		for _, word := range strings.Fields(strings.Join(p.lines, " ")) {
			if line != indent && len(line)+1+len(word) > 78 {
				fmt.Fprintln(w, line)
				line = indent
			}
			if line != indent {
				line += " "
			}
			line += word
		}
		fmt.Fprintln(w, line)
	}
}
