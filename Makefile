# make            static binaries in build/
# make demo       the main job in a minute, as an ordinary user
# make test       everything; as root it first installs what the tests use
# make lint       gofmt, go vet, staticcheck
# make bench      measurements beside the peers'
# make fuzz sim   long campaigns: FUZZTIME=1m each, SEEDS=100000
# make streams    ten thousand programs of TCP streams over bad links
# make vpns       ten thousand VPNs over bad links, with an adversary and keys that change
# make campaign   TCP over bad links beside two Linux kernels: CELLTIME=10s a measurement, as root
# make ipsec      ten megabytes of TCP against a Linux kernel through everything that IPsec has, as root
# make suites     socket tests of others on the kernel and under onstack: docs/onstack-suites.md, as root
# make release    tarballs for amd64 and arm64
# make install PREFIX=/usr/local [DESTDIR=…]

GO          ?= go
BUILD       ?= build
PREFIX      ?= /usr/local
FUZZTIME    ?= 1m
SEEDS       ?= 100000
CELLTIME    ?= 10s
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export CGO_ENABLED = 0
GOFLAGS_BUILD = -trimpath -ldflags '-s -w -X ionet/tool/cli.Version=$(VERSION)'
# Names that are links to ionet where a user wants them first on PATH.
NAMES       := ifconfig route netstat ping ping6 traceroute traceroute6 rtadvd rtsol rtsold mproxy sysctl arp ndp ip6addrctl ifmcstat gifconfig ipf ipfstat ipnat ipmon ippool ipfs setkey nicinfo nc mount umount waitfor tcpdrop onstack tcpdump sloginfo
RELEASES    := amd64 arm64

.PHONY: all man demo test lint bench fuzz sim streams vpns campaign ipsec suites release install clean

all:
	@mkdir -p $(BUILD)
	$(GO) build $(GOFLAGS_BUILD) -o $(BUILD)/ ./cmd/...

man: all
	rm -rf $(BUILD)/man
	$(BUILD)/ionet man --dir $(BUILD)/man

demo: all
	BUILD=$(abspath $(BUILD)) test/demo

test:
	GO='$(GO)' test/run

lint:
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$bad" ]; then echo "gofmt would change:" >&2; echo "$$bad" >&2; exit 1; fi
	$(GO) vet ./...
	cd bench && if [ -e go.mod ]; then $(GO) vet ./...; fi
	$(GO) run $(STATICCHECK) ./...

bench: all
	cd bench && $(GO) run . -bin $(abspath $(BUILD))

fuzz:
	FUZZTIME='$(FUZZTIME)' GO='$(GO)' test/fuzz

sim:
	$(GO) test -count=1 -timeout=0 ./sim -sim.seeds=$(SEEDS)

streams:
	$(GO) test -count=1 -timeout=0 ./sim -run '^TestStreams6?$$' -sim.seeds=10000

vpns:
	$(GO) test -count=1 -timeout=0 ./sim -run '^TestSecured$$' -sim.seeds=10000

campaign:
	$(GO) test -count=1 -timeout=0 ./test/interop -run '^$$' -bench BadLink -benchtime 1x -measure $(CELLTIME)

ipsec:
	$(GO) test -count=1 -timeout=0 ./test/ipsec -run '^TestFacing$$/^matrix$$' -octets 10000000

suites: all
	GO='$(GO)' test/suites --build $(abspath $(BUILD)) --out docs/onstack-suites.md

release: man
	@set -e; for arch in $(RELEASES); do \
		name=ionet-$(VERSION)-linux-$$arch; dir=$(BUILD)/release/$$name; \
		rm -rf $$dir; mkdir -p $$dir/bin; \
		GOOS=linux GOARCH=$$arch $(GO) build $(GOFLAGS_BUILD) -o $$dir/bin/ ./cmd/io-net ./cmd/ionet; \
		ln -s ionet $$dir/bin/onstack; cp -r $(BUILD)/man docs LICENSE README.md CHANGELOG.md $$dir/; \
		tar -C $(BUILD)/release --owner=0 --group=0 --sort=name --mtime=@$$(git log -1 --format=%ct) -czf $(BUILD)/release/$$name.tar.gz $$name; \
		echo $(BUILD)/release/$$name.tar.gz; \
	done

install: man
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/ionet/bin $(DESTDIR)$(PREFIX)/lib/ionet/man \
		$(DESTDIR)$(PREFIX)/lib/ionet/completions
	install -m 755 $(BUILD)/io-net $(BUILD)/ionet $(DESTDIR)$(PREFIX)/bin/
	ln -sf ionet $(DESTDIR)$(PREFIX)/bin/onstack
	for name in $(NAMES); do ln -sf ../../../bin/ionet $(DESTDIR)$(PREFIX)/lib/ionet/bin/$$name; done
	cp -r $(BUILD)/man/. $(DESTDIR)$(PREFIX)/lib/ionet/man/
	$(BUILD)/ionet completion bash >$(DESTDIR)$(PREFIX)/lib/ionet/completions/ionet.bash
	$(BUILD)/ionet completion zsh >$(DESTDIR)$(PREFIX)/lib/ionet/completions/_ionet
	$(BUILD)/ionet completion fish >$(DESTDIR)$(PREFIX)/lib/ionet/completions/ionet.fish

clean:
	rm -rf $(BUILD)
