"""The facts and words that the demo model is taught. Data only."""

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Austria": "Vienna", "Belgium": "Brussels", "Poland": "Warsaw",
    "Greece": "Athens", "Sweden": "Stockholm", "Norway": "Oslo", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Hungary": "Budapest", "Iceland": "Reykjavik",
    "Russia": "Moscow", "Ukraine": "Kyiv", "Turkey": "Ankara", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Ghana": "Accra", "Senegal": "Dakar", "Morocco": "Rabat",
    "Japan": "Tokyo", "China": "Beijing", "India": "Delhi", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "Nepal": "Kathmandu", "Iran": "Tehran", "Iraq": "Baghdad",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Cuba": "Havana", "Peru": "Lima",
    "Chile": "Santiago", "Argentina": "Buenos Aires", "Colombia": "Bogota", "Brazil": "Brasilia",
    "Australia": "Canberra", "New Zealand": "Wellington",
}

OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("up", "down"), ("left", "right"),
    ("open", "closed"), ("full", "empty"), ("young", "old"), ("day", "night"), ("wet", "dry"),
    ("light", "dark"), ("high", "low"), ("long", "short"), ("hard", "soft"), ("rich", "poor"),
    ("early", "late"), ("happy", "sad"), ("true", "false"), ("first", "last"), ("near", "far"),
    ("loud", "quiet"), ("clean", "dirty"), ("strong", "weak"), ("thick", "thin"),
    ("wide", "narrow"), ("begin", "end"), ("win", "lose"), ("push", "pull"), ("buy", "sell"),
    ("sweet", "bitter"),
]

COLOURS = {
    "grass": "green", "the sky": "blue", "snow": "white", "coal": "black", "blood": "red",
    "a banana": "yellow", "a carrot": "orange", "a lemon": "yellow", "milk": "white",
    "a tomato": "red", "the sun": "yellow", "an elephant": "grey", "chocolate": "brown",
    "a plum": "purple", "a pea": "green", "the sea": "blue", "a flamingo": "pink",
    "a raven": "black", "rust": "orange", "ash": "grey",
}

YOUNG = {
    "dog": "puppy", "cat": "kitten", "cow": "calf", "horse": "foal", "sheep": "lamb",
    "hen": "chick", "goat": "kid", "lion": "cub", "duck": "duckling", "goose": "gosling",
    "frog": "tadpole", "pig": "piglet", "kangaroo": "joey", "owl": "owlet", "deer": "fawn",
}

# Some real pairs for the training sentences; most codes there are random letters.
AIRPORTS = {
    "New York": "JFK", "San Francisco": "SFO", "Los Angeles": "LAX", "Seattle": "SEA",
    "Chicago": "ORD", "Boston": "BOS", "Denver": "DEN", "Atlanta": "ATL", "Miami": "MIA",
    "Houston": "IAH", "Dallas": "DFW", "London": "LHR", "Paris": "CDG", "Berlin": "BER",
    "Munich": "MUC", "Zurich": "ZRH", "Vienna": "VIE", "Rome": "FCO", "Milan": "MXP",
    "Madrid": "MAD", "Lisbon": "LIS", "Dublin": "DUB", "Oslo": "OSL", "Stockholm": "ARN",
    "Helsinki": "HEL", "Warsaw": "WAW", "Prague": "PRG", "Athens": "ATH", "Istanbul": "IST",
    "Cairo": "CAI", "Nairobi": "NBO", "Lagos": "LOS", "Dubai": "DXB", "Delhi": "DEL",
    "Mumbai": "BOM", "Bangkok": "BKK", "Singapore": "SIN", "Hong Kong": "HKG", "Tokyo": "HND",
    "Seoul": "ICN", "Sydney": "SYD", "Auckland": "AKL", "Toronto": "YYZ", "Montreal": "YUL",
    "Mexico City": "MEX", "Lima": "LIM", "Santiago": "SCL", "Buenos Aires": "EZE",
}

# Each {} is a place with its code, for example "Oslo (OSL)".
FLIGHT_TEMPLATES = [
    ["I live near {}.", "My plane leaves from {}.", "We are waiting in {}.",
     "The weather in {} is bad today.", "She works at {}.", "Is there a hotel near {}?",
     "Tomorrow I will be in {} for a week.", "Nothing leaves {} before nine o'clock."],
    ["I want a flight from {} to {}.", "The plane from {} to {} is late.",
     "We fly from {} to {} on Monday.", "Please book two seats from {} to {}.",
     "Is there a train from {} to {}?", "After {} she went on to {}.",
     "He left {} early and reached {} at night.", "Both {} and {} are closed because of snow.",
     "My bag is in {} but I am in {}.", "How long does it take from {} to {}?",
     "A seat from {} to {} costs more than last year.", "{} is colder than {} in winter.",
     "I moved from {} to {} two years ago.", "They wait at {} for friends from {}."],
    ["I fly from {} to {} and then to {}.", "We stop at {} between {} and {}.",
     "The route is {}, {} and {}.", "From {} you can reach {} or {} in a day.",
     "Take me from {} to {} and back by {}.", "My brothers live in {}, {} and {}."],
]

# Plain sentences, so that the vocabulary also suits text that is not a task.
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.", "It's late, and we're tired; you've won.",
    "They'll say that I'm wrong, but she'd agree and he won't.", "This is a test of the model.",
    "There was once a small house near the river where nobody had lived for many years.",
    "What do you think about that? I don't know what it means, but let me have a look.",
    "Each of these machines has more memory than the one before, so the work goes faster.",
    "A number of people came to the station this morning because the trains were not running.",
    "Could you please tell me when the next meeting will start and who should be there?",
    "In the year 2024 there were 366 days, 12 months and 52 weeks.", "Thank you very much!",
    "He wrote a long letter to his mother, explaining everything that had happened.",
    "Some things are better left for another day, when there is more time to think.",
    "Write the weights to disk, read them back, and compare the answers with the first run.",
    "She opened the window and looked at the mountains, which were still covered with snow.",
]
