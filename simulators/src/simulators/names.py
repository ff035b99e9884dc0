"""What the made-up company is made of. `Name=login` gives the ASCII spelling that a login takes, where it differs."""

GIVEN = """
    Ada Bertrand Celia Dashiell Edith Farid Greta Hugo Imani Joaquin Kenji Leila Mara Niamh Oscar Priya Quentin Rosa
    Silas Tamsin Umar Vera Wendell Xenia Yusuf Zelda Amara Bruno Chidi Dorothea
    Zoë=zoe Łukasz=lukasz Søren=soren André=andre Åsa=asa Jürgen=juergen Željko=zeljko Iñaki=inaki Őrsi=orsi
    Þóra=thora Ștefan=stefan Çağla=cagla Nguyệt=nguyet Ольга=olga Иван=ivan Ελένη=eleni Νίκος=nikos 美咲=misaki
    健太=kenta 하은=haeun 明月=mingyue ليلى=layla נועה=noa
"""

FAMILY = """
    Quillfeather Brambleworth Thistlewick Puddlecombe Marrowfield Snodgrass-Vale Wigglesby Tumbledown Crumpetson
    Larkspindle Fiddlewood Mossbottom Pennywhistle Hazelthorpe Gooseberry Butterfield-Moon Plumtree Wobbleton Nettlefold
    Teacosy Figgins Umbrage Velvetine Yarrowby Dapplegrove Inkwell Jamjar Kettlewell Oatbridge Rumpleton
    O'Marigold=o'marigold D'Umbria=d'umbria
    Müßiggang=muessiggang Żółwiński=zolwinski Ångström-Lind=angstrom-lind García-Molino=garcia-molino
    Øyvann=oyvann Ähtäri=ahtari Çilekçi=cilekci Nguyễn-Mây=nguyen-may Čmelák=cmelak Ördögh=ordogh
    Sæmundardóttir=saemundardottir
    Παραμυθάς=paramythas Сказкина=skazkina Выдумкин=vydumkin 夢野=yumeno 雲川=kumokawa 구름=gureum 云梦=yunmeng
"""

# Department: titles of its people, the first for its head.
DEPARTMENTS = {
    "Biscuit Engineering": ("Head of Biscuits", "Dough Architect", "Senior Crumb Engineer", "Crumb Engineer"),
    "Flavour Research": ("Chief Taster", "Spice Analyst", "Flavour Scientist", "Taster"),
    "Café Operations": ("Head of Cafés", "Café Manager", "Barista Lead", "Barista"),
    "Finance": ("Chief Counter of Beans", "Controller", "Accountant", "Payables Clerk"),
    "Qualität & Prüfung": ("Leiterin Qualität", "Prüfingenieur", "Krümelprüfer", "Prüfhelfer"),
    "Export/Import": ("Head of Export", "Customs Broker", "Tin Logistics Planner", "Dispatcher"),
    "People": ("Head of People", "Recruiter", "People Partner", "Payroll Clerk"),
    "IT": ("Head of IT", "Directory Engineer", "Support Engineer", "Technician"),
}

# Location: country, language, area code of its telephones (fictitious numbers: 555).
SITES = {
    "Crumbleford": ("GB", "en-GB", "+44 1632 555"),
    "Sample Springs": ("US", "en-US", "+1 202 555"),
    "Testhausen-Süd": ("DE", "de-DE", "+49 30 555"),
    "Łódź Próbna": ("PL", "pl-PL", "+48 42 555"),
    "Nulle-Part-sur-Mer": ("FR", "fr-FR", "+33 1 555"),
    "Δοκιμή": ("GR", "el-GR", "+30 21 555"),
}

# Role group: its name, and how large a part of the company has it.
ROLES = {
    "first-aid": ("First Aiders", 0.06),
    "on-call": ("On Call", 0.05),
    "works-council": ("Betriebsrat", 0.03),
    "tasters": ("Voluntary Tasters 🍪", 0.15),
}


def spellings(text: str) -> list[tuple[str, str]]:
    """(name, login part) for each entry of one of the lists above."""
    pairs = (entry.partition("=") for entry in text.split())
    return [(name, login or name.lower()) for name, _, login in pairs]
