// What a TypeScript SDK client needs to do OAuth: an OAuthClientProvider that keeps everything in memory, and the walk
// through pages that a human would make in a browser.
//
// Not here: the flow itself, which is the SDK's.
const REDIRECT = 'http://127.0.0.1:1/callback';

// Follows redirects from `start` as a browser does, up to the first URL that `ends` the walk, or else to a page.
export async function browse(start, ends) {
  const cookies = new Map();
  let url = new URL(start);
  for (let step = 0; step < 12; step += 1) {
    if (ends?.(url)) return url;
    const cookie = [...cookies].map(pair => pair.join('=')).join('; ');
    const response = await fetch(url, { redirect: 'manual', headers: cookie ? { cookie } : {} });
    const said = await response.text();
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0].split('=');
      cookies.set(name, value);
    }
    const location = response.headers.get('location');
    if (location) url = new URL(location, url);
    else if (response.ok && !ends) return url;
    else throw new Error(`a page where none was expected (${response.status}): ${said.slice(0, 300)}`);
  }
  throw new Error('redirects for ever');
}

export class Human {
  redirectUrl = REDIRECT;
  clientMetadata = {
    client_name: 'peer',
    redirect_uris: [REDIRECT],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    application_type: 'native',
  };
  // What each authorization asked for.
  asked = [];
  #kept = {};
  #page;

  // The user ticks every scope but those in `withhold`, and those too from the second time on. Where `forgetful`, the
  // refresh token is not shown to an SDK that would rather refresh than ask for more scopes.
  constructor({ user, withhold, forgetful }) {
    Object.assign(this, { user, withhold, forgetful });
  }

  state = () => (this.#kept.state = crypto.randomUUID());
  clientInformation = () => this.#kept.client;
  saveClientInformation = client => void (this.#kept.client = client);
  tokens = () => {
    const { tokens } = this.#kept;
    return tokens && this.forgetful?.() ? { ...tokens, refresh_token: undefined } : tokens;
  };
  saveTokens = tokens => void (this.#kept.tokens = tokens);
  codeVerifier = () => this.#kept.verifier;
  saveCodeVerifier = verifier => void (this.#kept.verifier = verifier);
  discoveryState = () => this.#kept.discovered;
  saveDiscoveryState = discovered => void (this.#kept.discovered = discovered);

  redirectToAuthorization(url) {
    this.asked.push(Object.fromEntries(url.searchParams));
    url.searchParams.set('login_hint', this.user);
    if (this.asked.length === 1) url.searchParams.set('withhold', this.withhold.join(' '));
    this.#page = url;
  }

  get hasPage() {
    return this.#page !== undefined;
  }

  // The parameters of the callback, where the provider sends the browser in the end.
  async walk() {
    const page = this.#page;
    this.#page = undefined;
    const end = await browse(page, url => url.href.startsWith(REDIRECT));
    return this.#checked(end.searchParams);
  }

  #checked(parameters) {
    if (parameters.get('state') !== this.#kept.state) throw new Error('the state came back changed');
    if (!parameters.has('code')) throw new Error(`no code: ${parameters}`);
    return parameters;
  }
}
